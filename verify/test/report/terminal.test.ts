import { Writable } from 'node:stream'
import t from 'tap'
import { terminalReport } from '../../report/terminal.ts'
import { madeUpRun } from './made-up-run.ts'

const { verdict } = madeUpRun()
const held = { ...verdict, verdict: 'held', lost: 0, lossBound: 0.01, counterexamples: [], checked: verdict.checked.map(check => ({ ...check, broken: 0 })) } as const
const paper = new Writable()

t.test('a broken promise comes first, with its count and its first counterexample in two lines', async t => {
  const lines = terminalReport(verdict, 'runs/1', paper).split('\n')
  t.match(lines[1], /^BROKEN {2}Promises were broken: lost 6, duplicated 6, wrong content 6\. 300 orders were acknowledged, through 12 faults, 8 of them with requests in flight\.$/)
  t.ok(lines.some(line => /^ {2}lost +6 of 400 /.test(line)))
  const shown = lines.findIndex(line => line.includes('was told of order-7'))
  t.match(lines[shown], /^ {2}lost +bob/)
  t.match(lines[shown + 1], /^ +place: ok 201, place \(replay\): no answer, place \(settle\): fail 409/)
  t.equal(lines.filter(line => line.includes('was told of order-7')).length, 3, 'one counterexample of each invariant is shown')
  t.ok(lines.some(line => line.includes('and 15 more')))
})

t.test('a held verdict shows the orders, the faults, the availability, the bound and what to do next', async t => {
  const text = terminalReport(held, 'runs/1', paper)
  for (const line of [
    'HELD  300 orders were acknowledged, and every one is stored, once, through 12 faults, 8 of them with requests in flight.',
    '400 attempted = 300 acknowledged + 80 refused + 20 unknown, of which 12 were stored',
    'kill              3 faults, 2 with requests in flight',
    'exit 0 × 3, by a signal × 1, 20 × 2',
    '87.13 % of 474 requests got a proper answer; 61 failed',
    'p50 8.3 ms, p99 412 ms, max 2.35 s',
    '0 lost of 250 that were acknowledged before a fault: at most 1 in 100, at 95 %',
    'shown             250 (50 needed)       P1, term: orders acknowledged before a fault',
    'not shown         3 (20 needed)         P2: orders sent twice at once',
    'skipped           P6: requests that a report names: no report',
    'oversold: the target tells no stock',
    'runs/1/report.html',
    'npm run verify -- --scenario all --duration 30 --rate 20 --clients 64 --seed 11'
  ]) t.ok(text.includes(line), line)
})

t.test('an unknown verdict says what is missing', async t => {
  const missing = ['No order was acknowledged: run it again.', 'Nothing was read.']
  const text = terminalReport({ ...held, verdict: 'unknown', missing }, 'runs/1', paper)
  t.match(text, /^\nUNKNOWN {2}Nothing was found broken, but the evidence does not suffice\. No order/)
  for (const reason of missing) t.match(text, new RegExp(`^ {2}missing +${reason}$`, 'm'))
})

t.test('colours appear on a terminal only, and data cannot control the terminal', async t => {
  const steering = { ...verdict, counterexamples: verdict.counterexamples.map(counterexample => ({ ...counterexample, says: 'red \x1b[31m\n' })) }
  t.notOk(terminalReport(steering, 'runs/1', paper).includes('\x1b'))
  t.match(terminalReport(steering, 'runs/1', paper), 'red \\u001b[31m\\n')
  const { NO_COLOR, NODE_DISABLE_COLORS, FORCE_COLOR, ...env } = process.env
  t.intercept(process, 'env', { value: { ...env, TERM: 'xterm-256color' } })
  const terminal = Object.assign(new Writable(), { isTTY: true, getColorDepth: () => 8 })
  t.match(terminalReport(verdict, 'runs/1', terminal), '\x1b[31mBROKEN')
})
