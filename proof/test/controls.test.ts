import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { proveControls } from '../controls/prove.ts'
import { controls, trialsOf } from '../controls/controls.ts'
import { recorded, recordedTrial, recordedTrials } from '../controls/recorded.ts'
import { replaceRows, type Row } from '../controls/recorded/damaged.ts'
import type { Trial } from '../controls/control.ts'
import type { Invariant } from '../../verify/verdict.ts'
import { Progress } from '../../verify/progress.ts'
import { names } from '../../verify/report/words.ts'

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

t.test('a control in which nothing is broken is not caught: the command exits 1 and says that the proof is worth nothing', async t => {
  const { isCaught, output } = await prove([damagedBy('no-flaw', 'Nothing', 'lost', row => [row])])
  t.strictSame(isCaught, [false])
  t.match(output, /lost +NOT CAUGHT +nothing: held\n/)
  t.match(output, /The control was not caught: no-flaw\. The proof is worth nothing/)
})

t.test('a control that only another promise catches counts as not caught', async t => {
  const { isCaught, output } = await prove([damagedBy('dropped', 'One row is gone', 'phantom', () => [])])
  t.strictSame(isCaught, [false])
  t.match(output, /phantom +NOT CAUGHT +lost 1\b/)
})

t.test('one control that is not caught makes the command exit 1, whatever comes after it', async t => {
  const caught = damagedBy('dropped', 'One row is gone', 'lost', () => [])
  const { isCaught, output } = await prove([damagedBy('no-flaw', 'Nothing', 'lost', row => [row]), caught])
  t.strictSame(isCaught, [false, true])
  t.match(output, /dropped .* caught +lost 1\b[^]*The control was not caught: no-flaw\./)
})

t.test('when several controls share a run, only findings about its own customer catch a control', async t => {
  const [mine, others] = [{ name: 'mine', broken: 'One row is gone', expected: 'lost' }, { name: 'others', broken: 'Nothing', expected: 'lost' }] as const
  const trial = damagedBy('dropped', 'One row is gone', 'lost', () => [])
  let customer = ''
  const shared: Trial = {
    ...trial,
    controls: [mine, others],
    async verdict (options) {
      const verdict = await trial.verdict(options)
      customer = verdict.counterexamples[0]?.customer ?? ''
      return verdict
    },
    customerOf: control => control === mine ? customer : 'somebody else'
  }
  const { isCaught } = await prove([shared])
  t.strictSame(isCaught, [true, false])
})

t.test('a saboteur that did nothing is reported as such', async t => {
  const trial = damagedBy('idle', 'Nothing', 'lost', row => [row])
  const { output } = await prove([{ ...trial, controls: [{ name: 'idle', broken: 'Nothing', expected: 'lost', isSaboteur: true }] }])
  t.match(output, /NOT CAUGHT \(it did nothing\)/)
})

t.test('each promise has a control in a recorded run, and the README names every control beside its promise', async t => {
  const readme = readFileSync(join(import.meta.dirname, '../../verify/README.md'), 'utf8')
  for (const { name, expected } of controls) t.match(readme, new RegExp(`^\\| ${names[expected]} \\|.*\`${name}\``, 'm'))
  t.strictSame(Object.keys(names).filter(invariant => !recorded.some(({ expected }) => expected === invariant)), [])
})

t.test('each control of a recorded run is caught by the promise that it breaks', async t => {
  const { isCaught, output } = await prove(recordedTrials(recorded))
  t.strictSame(isCaught, recorded.map(() => true), output)
})

t.test('two controls that could break the same promise for everybody do not share a run', async t => {
  const trials = trialsOf('all')
  for (const trial of trials) {
    const forEverybody = trial.controls.filter(control => trial.controls.length > 1 && trial.customerOf?.(control, 1) === null)
    for (const { expected } of forEverybody) t.equal(trial.controls.filter(other => other.expected === expected).length, 1, `${trial.name}: ${expected}`)
  }
  t.equal(trials.flatMap(trial => trial.controls).length, controls.filter(({ byName }) => byName !== true).length)
})

t.test('a control that runs only by its name has a recorded control that breaks the same promise', async t => {
  for (const { name, expected, byName } of controls) {
    if (byName !== true) continue
    t.equal(trialsOf(name).length, 1, name)
    t.ok(recorded.some(control => control.expected === expected), name)
  }
})

t.test('an unknown control, and an option that a control sets itself, are refused at once', async t => {
  const { status, output } = command(['--control', 'nonsense', '--scenario', 'kill', '--rate', '5'])
  t.equal(status, 2)
  t.match(output, /--control is "nonsense"; it takes all or one of acknowledge-before-commit, [^]*--scenario cannot go with --control[^]*--rate cannot go with --control/)
})

function command (args: string[], nodeArgs: string[] = []): { status: number | null, output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, join(import.meta.dirname, '../run.ts'), ...args], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

/** The record with the rows of one order replaced. */
function damagedBy (name: string, broken: string, expected: Invariant, by: (row: Row) => Row[]): Trial {
  return recordedTrial({
    name,
    broken,
    expected,
    damage (evidence) {
      replaceRows(evidence, evidence.first?.orders[0]?.id ?? '', by)
    }
  })
}

async function prove (trials: readonly Trial[]): Promise<{ isCaught: boolean[], output: string }> {
  let output = ''
  const progress = new Progress({
    write (text: string) {
      output += text
      return true
    }
  })
  const proved = await proveControls(trials, { seed: 1, directory: '', progress })
  return { isCaught: proved.map(({ isCaught }) => isCaught), output }
}
