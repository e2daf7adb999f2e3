import { test } from 'tap'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import { isHeld } from './damage.ts'
import { someEvidence, withMoney } from './true-history.ts'

const kill = (at: number) => ({ kind: 'kill', at, exitCode: null, drainMs: null })

/** A run with more orders than any minimum, with a kill in the middle and one before. */
function evidence (more: Partial<Evidence> = {}): Evidence {
  const whole = someEvidence(900)
  const times = whole.history.flatMap(line => line.type === 'ok' ? line.at : [])
  return { ...whole, faults: [kill(0), kill(times[times.length >> 1] ?? 0)], needed: { faultsInFlight: 0, occasions: true }, ...more }
}

test('a run with too few occasions to break a promise is not held, and names the missing ones', async t => {
  const { verdict, coverage, missing } = judge(evidence())
  t.equal(verdict, 'unknown')
  // The model has no staff.
  t.match(coverage.find(({ says }) => says === 'stocks increased'), { promise: 'stock', count: 0, needed: 3 })
  t.match(missing.join('\n'), /Not shown, because there were too few occasions: .*stock, stocks increased: 0 of 3/)
  t.notMatch(missing.join('\n'), /orders sent again after a fault/, 'occasions that the run had are not named')
})

test('each kind of fault needs its own occasions', async t => {
  const kinds = judge(evidence({ faults: [kill(0), { ...kill(1e9), kind: 'brownout:latency' }, { ...kill(1e9), kind: 'brownout:black-hole' }] })).coverage
  const acknowledged = (kind: string) => kinds.find(row => row.kind === kind && row.says === 'orders acknowledged before a fault')
  t.match(acknowledged('kill'), { count: 0 })
  t.ok((acknowledged('brownout')?.count ?? 0) > 50, 'faults of one kind are counted together')
})

test('occasions for a missing feature of the target are skipped by name, and not required', async t => {
  const all = ['price', 'restock', 'stock', 'precondition', 'fulfil', 'intrude', 'scarce', 'stream', 'transition', 'read', 'list']
  const { coverage, missing } = judge(evidence({ lacks: all }))
  t.match(coverage.find(({ says }) => says === 'stocks increased'), { skipped: 'the target does not support it' })
  t.notMatch(missing.join('\n'), /stocks increased/)
})

test('money must have moved often enough if the ledger of the gateway can be read', async t => {
  const money = (whole: Evidence) => judge(whole).coverage.filter(({ promise }) => promise === 'money')
  t.strictSame(money(evidence()), [])
  const occasions = money(withMoney(evidence()))
  for (const says of ['orders charged or authorised', 'orders charged after pay answered with an unknown outcome', 'orders charged and then cancelled']) {
    t.ok(occasions.some(row => row.says === says && row.count >= row.needed), says)
  }
  t.match(occasions.find(({ says }) => says === 'refunds acknowledged to staff'), { count: 0, needed: 3 })
})

test('a run in which most requests failed says that first', async t => {
  const failing = evidence()
  const history = failing.history.map(line => line.type === 'ok' ? { type: 'info' as const, op: line.op, at: line.at, status: 500, problem: 'internal' } : line)
  const { verdict, missing } = judge({ ...failing, history, settle: [], first: { orders: [] }, second: { orders: [] } })
  t.equal(verdict, 'unknown')
  t.match(missing[0], /^Most requests failed, \d+ of \d+/)
})

test('no occasions are missing if none are required', async t => {
  isHeld(t)
})
