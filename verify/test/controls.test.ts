import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { controlNames } from '../controls/controls.ts'
import { proveControls } from '../controls/prove.ts'
import { recordedControl } from '../controls/recorded.ts'
import type { Control } from '../controls/control.ts'
import { Progress } from '../progress.ts'

for (const [name, caughtBy] of [['recorded-dropped', /lost +caught +lost 1\b/], ['recorded-doubled', /duplicated +caught +duplicated 1\b/], ['recorded-total', /wrongContent +caught +wrongContent 1\n/]] as const) {
  t.test(`${name} is caught by the promise that it breaks, and the command exits 0`, async t => {
    const { status, output } = command(['--control', name, '--out', join(t.testdir(), 'out')])
    t.equal(status, 0, output)
    t.match(output, caughtBy)
    t.match(output, /Every control was caught: 1 of 1\./)
  })
}

t.test('with a judge that does not look for lost orders the command exits 1', async t => {
  const blind = `import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => url.endsWith('/judge/lost.ts')
      ? { format: 'module', shortCircuit: true, source: 'export const lost = () => ({ looked: 1 })' }
      : next(url, context) })`
  const { status, output } = command(['--control', 'recorded-dropped', '--out', join(t.testdir(), 'out')], ['--import', `data:text/javascript,${encodeURIComponent(blind)}`])
  t.equal(status, 1, output)
  t.match(output, /lost +NOT CAUGHT [^]*The control was not caught: recorded-dropped\. The proof is worth nothing/)
})

t.test('a control in which nothing is broken is not caught: exit 1, and the proof is said to be worth nothing', async t => {
  const { code, output } = await prove([recordedControl('no-flaw', 'Nothing', 'lost', row => [row])])
  t.equal(code, 1)
  t.match(output, /lost +NOT CAUGHT +nothing: held\n/)
  t.match(output, /The control was not caught: no-flaw\. The proof is worth nothing/)
})

t.test('a control that is caught by another promise only is not caught', async t => {
  const { code, output } = await prove([recordedControl('dropped', 'One row is gone', 'phantom', () => [])])
  t.equal(code, 1)
  t.match(output, /phantom +NOT CAUGHT +lost 1\b/)
})

t.test('one control that is not caught is enough, whatever comes after it', async t => {
  const caught = recordedControl('dropped', 'One row is gone', 'lost', () => [])
  const { code, output } = await prove([recordedControl('no-flaw', 'Nothing', 'lost', row => [row]), caught])
  t.equal(code, 1)
  t.match(output, /dropped .* caught +lost 1\b[^]*The control was not caught: no-flaw\./)
})

t.test('there is a control for each way that is known to lose an order, and for the judge by itself', async t => {
  t.strictSame(controlNames, [
    'acknowledge-before-commit', 'caught-error', 'memory-idempotency', 'do-nothing-race', 'stock-without-lock', 'outbox-by-cursor', 'async-commit',
    'recorded-dropped', 'recorded-doubled', 'recorded-total'
  ])
})

t.test('a control that there is not, and settings that a control has of its own, are told at once', async t => {
  const { status, output } = command(['--control', 'nonsense', '--scenario', 'kill', '--rate', '5'])
  t.equal(status, 2)
  t.match(output, /--control is "nonsense"; it takes all or one of acknowledge-before-commit, [^]*--scenario cannot go with --control[^]*--rate cannot go with --control/)
})

function command (args: string[], nodeArgs: string[] = []): { status: number | null, output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, join(import.meta.dirname, '../bin.ts'), ...args], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

async function prove (controls: readonly Control[]): Promise<{ code: number, output: string }> {
  let output = ''
  const progress = new Progress({
    write (text: string) {
      output += text
      return true
    }
  })
  return { code: await proveControls(controls, { seed: 1, directory: '', progress }), output }
}
