import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startProgram } from '../test/program.ts'
import { judge, type ForkOptions } from './arguments.ts'
import { makeFork } from './make.ts'
import { withoutNpm } from './without-npm.ts'

// Makes two forks in a temporary folder, and does with each what its owner does first: install, look at the types, test, start,
// place one, stop. npm run fork:try -- --all also lints, and runs every test of theirs.

const source = join(import.meta.dirname, '..')
const all = process.argv.includes('--all')
const few = ['test/clean-stop.test.ts', 'test/image-layout.long.ts', 'test/routes/fields.test.ts']

const home = mkdtempSync(join(tmpdir(), 'forks-'))
try {
  // The embedded Postgres of a root's tests runs as another user, who must be able to reach it.
  chmodSync(home, 0o755)
  const whole = judge({ directory: join(home, 'table-talk'), resource: 'booking', fields: 'room:text,nights:int', without: undefined })
  const small = judge({ directory: join(home, 'clinic'), resource: 'appointment', fields: 'withWhom:text,paidUp:bool', without: 'verify,bench,deploy' })
  await tryOut(whole, () => run(whole, 'npm', 'ci', '--no-audit', '--no-fund', '--no-progress'))
  // All that it needs is installed in the other, and installing takes half a minute.
  await tryOut(small, () => {
    if (all) return run(small, 'npm', 'ci', '--no-audit', '--no-fund', '--no-progress')
    cpSync(join(whole.directory, 'node_modules'), join(small.directory, 'node_modules'), { recursive: true, verbatimSymlinks: true })
    run(small, 'npm', 'run', '--silent', 'build')
  })
  console.log('Two forks were made, and work.')
} catch (error) {
  console.error(error, '\nThe forks were not finished. Mend fork/, or what it changes.')
  process.exitCode = 1
} finally {
  rmSync(home, { recursive: true, force: true })
}

async function tryOut (fork: ForkOptions, install: () => void): Promise<void> {
  const begun = performance.now()
  console.log(`── ${fork.name}: ${fork.resource} with ${fork.fields.map(({ name }) => name).join(', ')}, without ${fork.without.join(', ') || 'nothing'}`)
  makeFork(source, fork, () => {})
  install()
  run(fork, 'npm', 'run', '--silent', 'typecheck')
  if (all) run(fork, 'npm', 'run', '--silent', 'lint')
  run(fork, 'npx', 'tap', '--reporter=terse', ...all ? ['test/**/*.{test,long}.ts'] : [`test/routes/${fork.plural}.test.ts`, ...few])
  await placeOne(fork)
  console.log(`── ${fork.name} took ${Math.round((performance.now() - begun) / 1_000)} s`)
}

function run ({ directory }: ForkOptions, command: string, ...args: string[]): void {
  execFileSync(command, args, { cwd: directory, env: withoutNpm(process.env), stdio: 'inherit' })
}

/** As a person does it: the printed line twice makes one, and SIGTERM ends it with 0. */
async function placeOne ({ directory, fields, resource }: ForkOptions): Promise<void> {
  const options = { cwd: directory, env: { PATH: process.env.PATH, PORT: '0', OPS_PORT: '0' } }
  // No teardown: `finally` ends it.
  const { child, line, exited } = startProgram({ teardown () {} }, [process.execPath, 'server.ts'], { ...options, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const curl = await line(/^curl /)
    const [first = '', again = ''] = [1, 2].map(() => execFileSync('sh', ['-c', `${curl} --silent`], { encoding: 'utf8' }))
    const [field] = fields
    if (!first.startsWith('HTTP/1.1 201 ') || (field !== undefined && !first.includes(`"${field.name}":null`))) throw new Error(`The fork's first ${resource} was answered:\n${first}`)
    if (bodyOf(again) !== bodyOf(first) || !/^idempotent-replayed: true\r$/m.test(again)) throw new Error(`The same ${resource} again was answered:\n${again}`)
  } finally {
    child.kill('SIGTERM')
  }
  const [code, signal] = await exited
  if (code !== 0) throw new Error(`The fork, told to stop, ended with ${code ?? signal}.`)
}

function bodyOf (response: string): string {
  return response.slice(response.indexOf('\r\n\r\n'))
}
