import { test } from 'tap'
import type { Completion, Line, Operation, Purpose } from '../../history.ts'
import type { Evidence, Struck } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import type { StopReport } from '../../target.ts'
import type { Invariant } from '../../verdict.ts'

const read: Operation = { kind: 'read', customer: 'alice', id: 'order-1' }
const place: Operation = { kind: 'place', customer: 'alice', key: 'a', order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } }
const signal = 1_000
const exit = 1_100

/** A request that was sent 50 ms before the signal, and ended as given 20 ms after it. */
function request (end: Partial<Completion>, { op = 1, operation = read, purpose = 'read', sent = signal - 50 }: { op?: number, operation?: Operation, purpose?: Purpose, sent?: number } = {}): Line[] {
  return [
    { type: 'invoke', op, at: sent, scheduled: sent, purpose, operation },
    { type: 'info', op, at: signal + 20, sent, ...end }
  ]
}

function reportOf (requests: Partial<StopReport['requests']> = {}): StopReport {
  const none = { count: 0, ids: [] }
  return { startedAt: signal, exitCode: 0, requests: { completed: none, refused: none, unstarted: none, stalled: none, abandoned: none, ...requests } }
}

const named = (...ids: string[]) => ({ count: ids.length, ids })

function brokenIn (history: Line[], fault: Partial<Struck> = {}, more: Partial<Evidence> = {}): Invariant[] {
  const { checked } = judge({
    scenario: 'term',
    target: 'model',
    seed: 0,
    startedAt: '',
    duration: 0,
    environment: {},
    history,
    settle: [],
    products: [],
    faults: [{ kind: 'term', at: signal, exitCode: 0, drainMs: exit - signal, report: reportOf(), ...fault }],
    first: undefined,
    second: undefined,
    transitions: undefined,
    needed: { faultsInFlight: 0 },
    ...more
  })
  return checked.flatMap(({ invariant, broken }) => broken > 0 ? invariant : [])
}

test('a request that was read before the signal and got no answer is abandoned', async t => {
  t.same(brokenIn(request({ error: 'closed' })), ['abandoned', 'falseReport'], 'the report does not name the request')
  t.same(brokenIn(request({ error: 'cut', status: 200 }), { report: reportOf({ abandoned: named('r1') }), exitCode: 20 }), ['abandoned', 'falseReport', 'uncleanStop'], 'the exit code differs from that of the report')
})

test('a request that was answered in whole, refused, or never read is accounted for', async t => {
  const ends: Array<Partial<Completion>> = [
    { type: 'ok', status: 200 },
    { type: 'fail', status: 503, problem: 'not-started' },
    { type: 'info', status: 503, problem: 'outcome-unknown' },
    { error: 'ECONNRESET' },
    { error: 'timeout' }
  ]
  for (const end of ends) t.same(brokenIn(request(end)), [], JSON.stringify(end))
})

test('TCP shows nothing about a request that was sent after the signal, whose client left, or whose body had not arrived', async t => {
  t.same(brokenIn(request({ error: 'closed' }, { sent: signal + 1 })), [])
  t.same(brokenIn(request({ error: 'closed' }, { purpose: 'hang-up' })), [])
  t.same(brokenIn(request({ error: 'closed' }, { purpose: 'slow-body' })), [])
})

test('an order that was sent once, whose connection was reset, and that is stored, had begun', async t => {
  const row = { id: 'order-1', customer: 'alice', key: 'a', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'ale', quantity: 1, unitPrice: 5 }], total: 5, reference: null }
  const products = [{ sku: 'ale', name: 'Ale', unitPrice: 5, currency: 'EUR', stock: 9 }]
  const stored = { first: { orders: [row] }, products }
  t.same(brokenIn(request({ error: 'ECONNRESET' }, { operation: place }), {}, stored), ['abandoned', 'falseReport'])
  t.same(brokenIn(request({ error: 'ECONNRESET' }, { operation: place }), {}, { ...stored, first: { orders: [] } }), [])
  const again = request({ error: 'ECONNREFUSED', type: 'fail' }, { op: 2, operation: place, sent: exit + 1 })
  t.same(brokenIn([...request({ error: 'ECONNRESET' }, { operation: place }), ...again], {}, stored), [], 'the stored order may be of the retry')
})

test('behind a balancer the connections are the balancer\'s, and nothing counts as abandoned', async t => {
  t.same(brokenIn(request({ error: 'closed' }), {}, { environment: { balancer: 'haproxy' } }), [])
})

test('a stop without a report is false if the target promises a report', async t => {
  t.same(brokenIn([], { report: undefined } as never, { features: ['report'] }), ['falseReport'])
  t.same(brokenIn([], { report: undefined } as never), [])
})

test('an exit code that differs from the report, or that is 0 although something was abandoned, is false', async t => {
  t.same(brokenIn([], { exitCode: 20 }), ['falseReport', 'uncleanStop'])
  t.same(brokenIn([], { report: reportOf({ abandoned: named('r1') }) }), ['falseReport'])
})

test('a request that is reported as refused and whose client has a 2xx is falsely reported', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1' })
  t.same(brokenIn(answered, { report: reportOf({ completed: named('r1') }) }), [])
  for (const fate of ['refused', 'unstarted', 'abandoned'] as const) {
    t.ok(brokenIn(answered, { report: reportOf({ [fate]: named('r1') }) }).includes('falseReport'), fate)
  }
  t.same(brokenIn(answered, { report: reportOf({ completed: named('r1'), refused: named('r1') }) }), ['falseReport'], 'a request cannot be both completed and refused')
})

test('a request that was answered during the stop must be in the report', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1', at: signal + 60 }, { sent: signal + 30 })
  t.same(brokenIn(answered), ['falseReport'])
  t.same(brokenIn(answered, { report: reportOf({ completed: named('r1') }) }), [])
  const before = request({ type: 'ok', status: 200, requestId: 'r1' })
  t.same(brokenIn(before), [], 'a request that was sent before the stop may have been answered before it, too')
})

/** An earlier request of the run, whose answer does not announce a close. */
const usual = request({ type: 'ok', status: 200, requestId: 'r0', at: 20 }, { op: 99, sent: 10 })

test('a request that was in flight at the signal must be in the report if its answer shows that the stop had begun', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1', closes: true })
  t.same(brokenIn([...usual, ...answered]), ['falseReport'])
  t.same(brokenIn([...usual, ...answered], { report: reportOf({ completed: named('r1') }) }), [])
  t.same(brokenIn(answered), [], 'a service that closes with every answer shows nothing by it')
  t.same(brokenIn([...usual, ...answered], { report: reportOf({ completed: named('r1') }) }, { environment: { balancer: 'haproxy' } }), [])
  const before = request({ type: 'ok', status: 200, requestId: 'r1', closes: true, at: signal - 1 })
  t.same(brokenIn([...usual, ...before]), [], 'an answer before the signal shows nothing either')
})

test('a cut request must not count as completed', async t => {
  const both = [...request({ type: 'ok', status: 200, requestId: 'r1' }), ...request({ error: 'closed' }, { op: 2 })]
  const stop = (requests: Partial<StopReport['requests']>) => ({ exitCode: 20, report: { ...reportOf(requests), exitCode: 20 } })
  t.same(brokenIn(both, stop({ completed: named('r1'), abandoned: named('r2') })), ['abandoned', 'uncleanStop'])
  t.same(brokenIn(both, stop({ completed: named('r1', 'r2') })), ['abandoned', 'falseReport', 'uncleanStop'])
  t.same(brokenIn(both, stop({ completed: named('r1', 'r2'), abandoned: named('r3') })), ['abandoned', 'falseReport', 'uncleanStop'], 'another abandoned request does not explain it')
})

test('a request that is reported as refused or not started must have no answer to its question', async t => {
  const outOfStock = request({ type: 'fail', status: 409, problem: 'out-of-stock', requestId: 'r1' }, { operation: place })
  const turnedAway = request({ type: 'fail', status: 503, problem: 'not-started', requestId: 'r1' })
  for (const fate of ['refused', 'unstarted'] as const) {
    t.ok(brokenIn(outOfStock, { report: reportOf({ [fate]: named('r1') }) }).includes('falseReport'), fate)
    t.same(brokenIn(turnedAway, { report: reportOf({ [fate]: named('r1') }) }), [], fate)
  }
})

test('a report that counts more requests than were answered is false, unless clients without an answer explain the rest', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1' })
  const more = { report: reportOf({ completed: named('r1', 'r2') }) }
  t.same(brokenIn(answered, more), ['falseReport'])
  t.same(brokenIn([...answered, ...request({ error: 'hang-up' }, { op: 2, purpose: 'hang-up' })], more), [], 'a client that hung up explains it')
  t.same(brokenIn([...answered, ...request({ error: 'ECONNRESET' }, { op: 2, sent: signal + 1 })], more), [], 'a client whose connection was reset explains it')
  t.same(brokenIn([...answered, ...request({ error: 'ECONNREFUSED', type: 'fail' }, { op: 2, sent: signal + 1 })], more), ['falseReport'], 'a client that reached no server does not explain it')
  t.same(brokenIn(answered, { ...more, probes: 1 }), [], 'a probe of the harness explains it')
  t.same(brokenIn(answered, { report: reportOf({ completed: named('r1'), unstarted: named('r2') }) }), ['falseReport'], 'unstarted requests count, too')
})

test('event streams that a stop met count as requests, and those that ended before do not', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1' })
  const two = { report: reportOf({ completed: named('r1', 'that of the stream') }) }
  const stream = (state: 'opened' | 'ended', at: number): Line => ({ type: 'stream', at, customer: 'alice', state })
  t.same(brokenIn([stream('opened', 1), ...answered], two), [])
  t.same(brokenIn([stream('opened', 1), ...answered, stream('ended', signal + 30)], two), [])
  t.same(brokenIn([stream('opened', 1), stream('ended', signal - 30), ...answered], two), ['falseReport'])
})

test('a report that counts more requests than there were, or that names none, is false', async t => {
  const answered = request({ type: 'ok', status: 200, requestId: 'r1' })
  t.same(brokenIn(answered, { report: reportOf({ completed: { count: 999, ids: ['r1'] } }) }), ['falseReport'])
  t.same(brokenIn(answered, { report: reportOf({ completed: { count: 99_999, ids: ['r1'] } }) }), ['falseReport'], 'a count with too many requests to name is false, too')
  t.same(brokenIn(answered, { report: reportOf({ completed: { count: 1, ids: [] } }) }), ['falseReport'])
})
