import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

// Follows docs/forking.md in a temporary folder: that page is the only place in which the steps stand.

const root = join(import.meta.dirname, '../..')
const lastStep = 10

/** Without what `npm run` leaves to the programs it starts: it names this repository, where npm is to work in the fork. */
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|INIT_CWD$)/i.test(name)))

/** A fenced block of the guide. */
interface Block {
  /** The heading above it, with its number. */
  step: string
  language: string
  /** The file to write, where the fence names one. */
  file: string
  content: string
}

const fork = mkdtempSync(join(tmpdir(), 'fork-'))
try {
  // The embedded Postgres of a root's tests runs as another user, who must be able to reach it.
  chmodSync(fork, 0o755)
  clone(root, fork)
  const blocks = blocksOf(readFileSync(join(root, 'docs/forking.md'), 'utf8'))
  const steps = new Set(blocks.map(({ step }) => parseInt(step)))
  for (let step = 1; step <= lastStep; step++) if (!steps.has(step)) throw new Error(`docs/forking.md has no step ${step} with a block. Nothing was tried.`)

  let said = ''
  for (const block of blocks) {
    if (block.step !== said) console.log(`── ${said = block.step}`)
    if (block.language === 'sh') execFileSync('bash', ['-euo', 'pipefail', '-c', block.content], { cwd: fork, env: environment, stdio: 'inherit' })
    if (block.language === 'diff') execFileSync('git', ['apply', '-'], { cwd: fork, input: block.content, stdio: ['pipe', 'inherit', 'inherit'] })
    if (block.file !== '') writeFileSync(join(fork, block.file), block.content)
  }
  await bookOnce()
  console.log('The fork works: docs/forking.md was followed to its end.')
} catch (error) {
  console.error(`${error instanceof Error ? error.message : String(error)}\nThe fork was not finished. Mend docs/forking.md, or what it changes.`)
  process.exitCode = 1
} finally {
  rmSync(fork, { recursive: true, force: true })
}

/** What is committed, or would be with the next commit, as a repository of its own. */
function clone (from: string, to: string): void {
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: to, encoding: 'utf8' })
  const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: from, encoding: 'utf8' }).split('\0')
  for (const file of files) if (file !== '' && existsSync(join(from, file))) cpSync(join(from, file), join(to, file))
  git('init', '--quiet')
  git('add', '--all')
  git('-c', 'user.name=fork', '-c', 'user.email=fork@example.org', 'commit', '--quiet', '--message', 'The template')
}

function blocksOf (guide: string): Block[] {
  return guide.split(/^## /m).slice(1).flatMap(section => {
    const step = section.slice(0, section.indexOf('\n'))
    return [...section.matchAll(/^```(\w*) ?(\S*)\n([^]*?)^```$/gm)].map(([, language = '', file = '', content = '']) => ({ step, language, file, content }))
  })
}

/** Step 10, as a person does it: the printed line twice makes one booking, and SIGTERM ends it with 0. */
async function bookOnce (): Promise<void> {
  const service = spawn(process.execPath, ['server.ts'], { cwd: fork, env: { PATH: process.env.PATH, PORT: '0', OPS_PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(service, 'close')
  let curl: string | undefined
  for await (const line of createInterface({ input: service.stdout })) {
    if (!line.startsWith('curl ')) continue
    curl = line
    break
  }
  service.stdout.resume()
  try {
    if (curl === undefined) throw new Error('The fork ended without printing its curl line.')
    const [first, again] = [1, 2].map(() => execFileSync('sh', ['-c', `${curl} --silent`], { encoding: 'utf8' }))
    if (!/^HTTP\/1.1 201 [^]*"guests":null/.test(first ?? '')) throw new Error(`The fork's first booking was answered:\n${first}`)
    if (bodyOf(again) !== bodyOf(first) || !/^idempotent-replayed: true\r$/m.test(again ?? '')) throw new Error(`The same booking again was answered:\n${again}`)
  } finally {
    service.kill('SIGTERM')
  }
  const [code, signal] = await exited
  if (code !== 0) throw new Error(`The fork, told to stop, ended with ${code ?? signal}.`)
}

function bodyOf (response = ''): string {
  return response.slice(response.indexOf('\r\n\r\n'))
}
