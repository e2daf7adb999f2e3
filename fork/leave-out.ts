import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Part } from './arguments.ts'
import { Edit } from './edit.ts'
import { keepTools } from './tools.ts'

interface Left {
  paths: string[]
  /** Of package.json. */
  scripts: RegExp
  /** Of .ci/run, by their names. */
  gates?: RegExp
}

/** What belongs to this project alone: how it is forked and released, and what it has measured. */
const own: Left = {
  paths: [
    'fork', 'test/fork', 'docs/forking.md', 'docs/held.md', 'docs/scale.md', 'docs/performance.md', 'docs/performance.svg', 'docs/prove-your-own.md', 'docs/prove-your-own', 'docs/operators-page',
    'CHANGELOG.md', '.ci/nightly', '.github/workflows/release-fastify-drain.yml'
  ],
  scripts: /^(fork(:.*)?|nightly|prove-your-own)$/,
  gates: /^forks\b/
}

const optional: Record<Part, Left> = {
  verify: {
    paths: ['proof', 'verify', 'test/balancers/control.long.ts', 'docs/backup-and-restore/try.ts'],
    scripts: /^(demo|verify(:.*)?|db:restores)$/,
    gates: /^(verify|controls)\b/
  },
  bench: { paths: ['bench', 'test/bench.long.ts'], scripts: /^(bench(:.*)?|gauntlet|soak)$/ },
  // Compose and verify use the rest of it.
  deploy: {
    paths: ['deploy/checks', 'deploy/envoy', 'deploy/extras', 'deploy/kubernetes', 'deploy/observability', 'deploy/release', 'deploy/package.json', 'deploy/package-lock.json', 'deploy/tsconfig.json', 'deploy/.npmrc', 'test/deploy', '.github/workflows/release.yml'],
    scripts: /^(test:deploy|observability)$/,
    gates: /^deploy\b/
  }
}

/** Takes out what a fork has no use for, and what its owner does not want, with every mention that would fail. */
export function leaveOut (root: string, without: Part[]): void {
  const left = [own, ...without.map(part => optional[part])]
  if (without.includes('verify')) {
    for (const path of optional.verify.paths) if (path.endsWith('.ts')) rmSync(join(root, path))
    for (const folder of ['proof', 'verify']) {
      keepTools(root, folder, 'tools')
      rmSync(join(root, folder), { recursive: true })
    }
    withoutVerify(root)
  }
  if (without.includes('deploy')) withoutDeploy(root)
  for (const { paths } of left) for (const path of paths) rmSync(join(root, path), { recursive: true, force: true })
  thinPackage(root, left, without)
  thinPipeline(root, left)
  if (without.includes('bench')) new Edit(root, 'tsconfig.json').replace('"bench", ', '').save()
  new Edit(root, 'Dockerfile').replace(" Why V8's young generation (MiB) has these settings: docs/performance.md.", " V8's young generation (MiB) is as large as what a batch leaves behind.").save()
}

function withoutVerify (root: string): void {
  new Edit(root, '.taprc').replace('  - verify/test/**/*.test.ts\n  - proof/test/**/*.test.ts\n', '').save()
  new Edit(root, 'tsconfig.json').replace('"verify", "proof", ', '').save()
  new Edit(root, '.dockerignore').replace('# The lockfile names it; the image does without the rest.\n!verify/package.json\n', '').save()
  new Edit(root, 'Dockerfile')
    .replace('COPY verify/package.json verify/\n', '')
    .replace(', the workspace verify its own.\nRUN rm -r verify && npm prune', '.\nRUN npm prune')
    .save()
  new Edit(root, 'sonar-project.properties').replace(',verify/test,proof/test', '').save()
  // A test compares how each of them starts node.
  new Edit(root, 'test/image-layout.long.ts')
    .replace("import { node as verifiedNode } from '../tools/order-service.ts'\n", '')
    .replace("test('npm start, verify and the bench run node", "test('npm start runs node")
    .replace("  t.same(verifiedNode.slice(1), exec('CMD').slice(0, -1))\n", '')
    .replace("'plugins/drain/src/index.ts', 'verify/package.json', ", "'plugins/drain/src/index.ts', ")
    .save()
}

function withoutDeploy (root: string): void {
  const compose = readFileSync(join(root, 'docker-compose.yml'), 'utf8')
  const watching = compose.slice(compose.indexOf('  # Scrapes every instance'), compose.indexOf('\nvolumes:\n') + 1)
  new Edit(root, 'docker-compose.yml')
    .replace(watching, '')
    .replace('\n\nvolumes:\n', '\nvolumes:\n')
    .replace('  prometheus:\n', '')
    .replace('# Watched in Grafana on port 3002:     docker compose --profile watch up --build --wait\n', '')
    .replace('docker compose --profile scale --profile watch down', 'docker compose --profile scale down')
    .save()
  new Edit(root, 'sonar-project.properties').replace(',deploy/checks\n', '\n').replace(',deploy/checks/**', '').save()
  new Edit(root, 'tsconfig.json').replace('"deploy/checks", "deploy/observability", ', '').save()
}

interface Package {
  workspaces: string[]
  scripts: Record<string, string>
}

function thinPackage (root: string, left: Left[], without: Part[]): void {
  const path = join(root, 'package.json')
  const all = JSON.parse(readFileSync(path, 'utf8')) as Package
  all.scripts = Object.fromEntries(Object.entries(all.scripts)
    .filter(([name]) => !left.some(({ scripts }) => scripts.test(name)))
    .map(([name, script]) => [name, without.reduce((rest, part) => rest.replace(` && tsc -p ${part}`, ''), script)]))
  all.workspaces = all.workspaces.filter(workspace => existsSync(join(root, workspace)))
  writeFileSync(path, `${JSON.stringify(all, null, 2)}\n`)
}

/** A gate is taken out with the comment above it. */
function thinPipeline (root: string, left: Left[]): void {
  const path = join(root, '.ci/run')
  const kept: string[] = []
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const gate = /^(?:begin|gate) (.*)/.exec(line)?.[1] ?? ''
    if (!left.some(({ gates }) => gates?.test(gate))) kept.push(line)
    else while (kept.at(-1)?.startsWith('#') === true) kept.pop()
  }
  writeFileSync(path, kept.join('\n'))
}
