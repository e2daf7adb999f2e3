import { test } from 'tap'
import type { Line } from '../../history.ts'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import type { Fault } from '../../verdict.ts'
import { someEvidence } from './true-history.ts'

const evidence = someEvidence()
const stop: Omit<Fault, 'inFlight'> = { kind: 'term', at: 0, instance: 1, exitCode: 0, drainMs: 120 }

test('a stop that ends with an exit code other than 0, or by a signal, is unclean', async t => {
  for (const exitCode of [20, 1, null]) {
    const { verdict, uncleanStop, counterexamples } = judge({ ...evidence, faults: [stop, { ...stop, exitCode }, stop] })
    t.match([verdict, uncleanStop], ['broken', 1])
    t.match(counterexamples, [{ invariant: 'uncleanStop', says: /^Stop 2 \(term, instance 1\) ended (with exit code \d+|by a signal) after 120 ms\.$/ }])
  }
  t.equal(judge({ ...evidence, faults: [stop] }).verdict, 'held')
})

test('a process that was killed and not told to stop has no stop to check', async t => {
  const { verdict, checked } = judge({ ...evidence, faults: [{ ...stop, kind: 'kill', exitCode: null, drainMs: null }] })
  t.equal(verdict, 'held')
  t.match(checked.find(({ invariant }) => invariant === 'uncleanStop'), { looked: null, because: /told to stop/ })
})

test('one failed request breaks the promise behind a balancer, and only there', async t => {
  const failed: Line[] = [
    { type: 'invoke', op: 9_001, at: 1, scheduled: 1, purpose: 'read', operation: { kind: 'read', customer: 'alice', id: 'order-1' } },
    { type: 'fail', op: 9_001, at: 2, status: 503, problem: 'not-started' }
  ]
  const seen = (history: Evidence['history'], noFailedRequest: boolean) => judge({ ...evidence, history, needed: { faultsInFlight: 0, noFailedRequest } })
  // The model of a true history contains refused requests.
  const whole = seen([...evidence.history, ...failed], false)
  t.equal(whole.verdict, 'held')
  t.match(whole.checked.find(({ invariant }) => invariant === 'failedRequest'), { looked: null })

  const { verdict, failedRequest, checked } = seen(failed, true)
  t.match([verdict, failedRequest], ['broken', 1])
  t.match(checked.find(({ invariant }) => invariant === 'failedRequest'), { looked: 1, broken: 1 })
  t.equal(seen([failed[0] as Line, { type: 'ok', op: 9_001, at: 2, status: 200 }], true).failedRequest, 0)
})

test('a request that found no free client was not sent and did not fail, but the run does not suffice then', async t => {
  const unsent: Line[] = [
    { type: 'invoke', op: 9_001, at: 1, scheduled: 1, purpose: 'read', operation: { kind: 'read', customer: 'alice', id: 'order-1' } },
    { type: 'fail', op: 9_001, at: 2, error: 'timeout' }
  ]
  const verdict = judge({ ...evidence, history: [...evidence.history.filter(line => !('op' in line) || line.type === 'invoke' || line.type === 'ok'), ...unsent], needed: { faultsInFlight: 0, noFailedRequest: true } })
  t.notOk(verdict.counterexamples.some(({ orderId }) => orderId === 'request 9001'))
  t.match(verdict.missing.join(), /1 requests found no free client in time/)
})
