import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ConfigError } from '../config.ts'
import { forPeople } from '../user-error.ts'

const root = join(import.meta.dirname, '..')

async function stderrOf (program: string, ...args: string[]): Promise<string> {
  return await promisify(execFile)(process.execPath, [join(root, program), ...args], { env: { PATH: process.env.PATH, NO_COLOR: '1' } })
    .then(() => 'it succeeded', ({ stderr }: { stderr: string }) => stderr)
}

t.test('an error for people is printed as its message, and any other error whole', async t => {
  const fault = new Error('a fault of the program')
  t.equal(forPeople(fault), fault)
  t.match(forPeople(new ConfigError(['PORT is "x"; it takes a number.'])), /^The settings cannot be used\. Nothing was started\.\n {2}- PORT is "x"/)
})

t.test('a command of verify prints the stack of a fault in the target file', async t => {
  const target = join(t.testdir({ 'target.mts': "throw new Error('this target has a fault')" }), 'target.mts')
  t.match(await stderrOf('verify/bin.ts', '--target', target, '--duration', '1'), /Error: this target has a fault\n {4}at .*target\.mts:1:7/)
})

t.test('a command that gets an option which it does not have prints no stack', async t => {
  for (const [program, option] of [['prisma/migrate.ts', '--no-such'], ['verify/bin.ts', '--no-such'], ['prisma/check-migrations.ts', '--no-such'], ['config/print.ts', '--no-such']] as const) {
    const stderr = await stderrOf(program, option)
    t.match(stderr, /--no-such|Usage/, program)
    t.notMatch(stderr, /\n {4}at /, program)
  }
})
