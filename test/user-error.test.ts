import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ConfigError } from '../config.ts'
import { forPeople } from '../user-error.ts'

const root = join(import.meta.dirname, '..')

async function stderrOf (program: string, args: readonly string[], ...nodeOptions: string[]): Promise<string> {
  return await promisify(execFile)(process.execPath, [...nodeOptions, join(root, program), ...args], { env: { PATH: process.env.PATH, NO_COLOR: '1' } })
    .then(() => 'it succeeded', ({ stderr }: { stderr: string }) => stderr)
}

t.test('an error for people is printed as its message, and any other error whole', async t => {
  const fault = new Error('a fault of the program')
  t.equal(forPeople(fault), fault)
  t.match(forPeople(new ConfigError(['PORT is "x"; it takes a number.'])), /^The settings cannot be used\. Nothing was started\.\n {2}- PORT is "x"/)
})

t.test('a command of verify prints the stack of a fault in the target file', async t => {
  const target = join(t.testdir({ 'target.mts': "throw new Error('this target has a fault')" }), 'target.mts')
  t.match(await stderrOf('verify/bin.ts', ['--target', target, '--duration', '1']), /Error: this target has a fault\n {4}at .*target\.mts:1:7/)
})

const commands = { 'verify/bin.ts': ['--help'], 'proof/demo/run.ts': ['--out', join(t.testdir(), 'out')] }

/** Lets a command run code as soon as it is ready for a fault. */
function withCode (code: string): string {
  const module = `process.on('newListener', event => { if (event === 'uncaughtException') setImmediate(() => { ${code} }) })`
  return `--import=data:text/javascript,${encodeURIComponent(module)}`
}

for (const [program, args] of Object.entries(commands)) {
  t.test(`${program} prints a fault of its own with the stack`, async t => {
    t.match(await stderrOf(program, args, withCode("throw new Error('a fault')")), /Error: a fault\n {4}at /)
  })

  t.test(`${program} prints only a message if a signal ends it`, async t => {
    const stderr = await stderrOf(program, args, withCode("setInterval(() => {}, 1_000); process.kill(process.pid, 'SIGTERM')"))
    t.match(stderr, /^SIGTERM: the (run|demo) was ended, and nothing was (judged|counted)\.\n$/)
  })
}

t.test('verify prints only the faults of a description that cannot be used', async t => {
  const description = join(t.testdir({ 'service.yaml': 'name: [' }), 'service.yaml')
  const stderr = await stderrOf('verify/bin.ts', ['--target', description])
  t.match(stderr, /service\.yaml cannot be used; nothing was started\.\n {2}- line 1: /)
  t.notMatch(stderr, /\n {4}at /)
})

t.test('a command that gets an option which it does not have prints no stack', async t => {
  for (const [program, option] of [['prisma/migrate.ts', '--no-such'], ['verify/bin.ts', '--no-such'], ['prisma/check-migrations.ts', '--no-such'], ['config/print.ts', '--no-such']] as const) {
    const stderr = await stderrOf(program, [option])
    t.match(stderr, /--no-such|Usage/, program)
    t.notMatch(stderr, /\n {4}at /, program)
  }
})
