import { test } from 'tap'
import type { Line } from '../../history.ts'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import { acknowledgedIds, acknowledgements, type Draft, forget, isCaught, isHeld, readsOf } from './damage.ts'
import { someEvidence, withMoney } from './true-history.ts'

function draftOf (evidence: Evidence): Draft<Evidence> {
  return structuredClone(evidence) as Draft<Evidence>
}

test('the verdict on a service that keeps every promise is held', async t => {
  isHeld(t)
})

test('every check examines something', async t => {
  const faults: Evidence['faults'] = [{ kind: 'term', at: 0, exitCode: 0, drainMs: 5 }]
  for (const { invariant, looked, because } of judge({
    ...withMoney(someEvidence()),
    faults,
    deliveries: someEvidence().second?.events ?? [],
    needed: { faultsInFlight: 0, noFailedRequest: true }
  }).checked) {
    // The model reports no stops, and a stop without requests has abandoned nothing.
    if (invariant === 'falseReport') continue
    // The model does not ship anything, either.
    if (invariant !== 'abandoned' && invariant !== 'shippedUnpaid') t.ok(looked, invariant)
    t.equal(because, undefined, invariant)
  }
})

test('the same evidence gives the same verdict, and is not changed', async t => {
  const evidence = someEvidence()
  const before = structuredClone(evidence)
  t.same(judge(evidence), judge(evidence))
  t.same(evidence, before)
})

test('orders count as acknowledged, refused or unknown by the state when the load ended', async t => {
  const place = (op: number, key: string, type?: 'ok' | 'fail' | 'info'): Line[] => [
    { type: 'invoke', op, at: op, scheduled: op, purpose: 'new', operation: { kind: 'place', customer: 'alice', key, order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } } },
    ...type ? [{ type, op, at: op }] : []
  ]
  const row = { id: 'order-1', customer: 'alice', key: 'd', status: 'placed', version: 1, currency: 'EUR', items: [], total: 0, reference: null }
  const { attempted, acknowledged, refused, unknown, recovered, lossBound } = judge({
    ...someEvidence(),
    history: [...place(1, 'a', 'info'), ...place(2, 'a', 'ok'), ...place(3, 'b', 'fail'), ...place(4, 'b', 'fail'), ...place(5, 'c', 'fail'), ...place(6, 'c', 'info'), ...place(7, 'd')],
    settle: [...place(1, 'c', 'ok'), ...place(2, 'd', 'ok')],
    first: { orders: [row] },
    second: { orders: [] }
  })
  t.match({ attempted, acknowledged, refused, unknown, recovered }, { attempted: 4, acknowledged: 1, refused: 1, unknown: 2, recovered: 1 })
  t.equal(lossBound, null, 'a run that lost orders has no bound')
})

test('the bound is three divided by the number of orders acknowledged before a fault', async t => {
  const evidence = someEvidence()
  const times = evidence.history.flatMap(line => line.type === 'ok' ? line.at : [])
  const [first = 0, middle = 0, last = 0] = [times[0], times[times.length >> 1], times.at(-1)]
  const at = (...at: number[]) => judge({ ...evidence, faults: at.map(at => ({ kind: 'kill', at, exitCode: null, drainMs: null })) })
  t.match(at(), { exposed: 0, lossBound: null })
  t.match(at(first), { exposed: 0, lossBound: null })
  const half = at(middle)
  t.ok(half.exposed > 0 && half.exposed < half.acknowledged)
  t.equal(half.lossBound, 3 / half.exposed)
  t.equal(at(middle, last + 1).exposed, half.acknowledged, 'every order before the last fault is exposed')
})

test('without a final read the verdict is unknown, and says what was not checked', async t => {
  for (const read of ['first', 'second'] as const) {
    const { verdict, missing } = judge({ ...someEvidence(), [read]: undefined })
    t.equal(verdict, 'unknown', read)
    t.match(missing, [/^The stored data was not read after the .*, and run it again\.$/])
  }
  const { verdict, missing, checked } = judge({ ...someEvidence(), first: undefined, second: undefined })
  t.equal(verdict, 'unknown')
  t.equal(missing.length, 2)
  t.match(checked.find(({ invariant }) => invariant === 'phantom'), { looked: null, because: 'There was no final read.' })
})

test('without an acknowledgement the verdict is unknown, and bounds nothing', async t => {
  const { verdict, missing, lossBound } = judge({ ...someEvidence(0), first: { orders: [] }, second: { orders: [] } })
  t.equal(verdict, 'unknown')
  t.match(missing, [/^No order was acknowledged/])
  t.equal(lossBound, null)
})

test('the verdict is unknown if too few faults hit requests in flight', async t => {
  const evidence = someEvidence()
  const busy = evidence.history.find(line => line.type === 'info')!.at - 0.5
  const faultsAt = (...times: number[]) => times.map(at => ({ kind: 'kill', at, exitCode: null, drainMs: null }))
  const verdict = (faults: Evidence['faults'], faultsInFlight: number) => judge({ ...evidence, faults, needed: { faultsInFlight } })

  t.equal(verdict(faultsAt(busy), 1).verdict, 'held')
  t.match(verdict(faultsAt(0), 1), { verdict: 'unknown', missing: [/^Of 1 faults 0 hit a request in flight, and 1 must/] })
  t.match(verdict(faultsAt(busy, 0), 2), { verdict: 'unknown', missing: [/^Of 2 faults 1 hit/] })
})

test('the verdict is unknown if a key got no answer when it was posted again', async t => {
  const draft = draftOf(someEvidence())
  draft.settle.pop()
  t.match(judge(draft), { verdict: 'unknown', missing: [/^1 keys that were acknowledged or unknown were not answered/] })
})

test('the verdict is unknown if an answer has no invocation', async t => {
  const draft = draftOf(someEvidence())
  draft.history.push({ type: 'ok', op: 10_001, at: 1 })
  t.match(judge(draft), { verdict: 'unknown', missing: [/^1 answers are in the history without/] })
})

test('a broken promise makes the verdict broken, whatever evidence is missing', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    forget(draft, pick(acknowledgedIds(draft)))
    draft.needed.faultsInFlight = 3
  })
})

test('what the target does not show is not checked, and the verdict says so', async t => {
  const draft = draftOf(someEvidence())
  for (const read of readsOf(draft)) {
    delete read.events
    delete read.products
  }
  const { verdict, checked } = judge(draft)
  const of = (name: string) => checked.find(({ invariant }) => invariant === name)
  t.equal(verdict, 'held')
  t.match(of('oversold'), { looked: null, because: 'The target does not report its stock.' })
  t.match(of('outboxMissing'), { looked: null, because: 'The target tells of no outbox.' })
  t.match(of('state'), { looked: Number, because: /^The target tells of no outbox\./ })
  t.match(judge({ ...someEvidence(), transitions: undefined }).checked.find(({ invariant }) => invariant === 'state'), { looked: Number, because: /names no transitions/ })
})

test('a counterexample contains every request about the order and its stored rows', async t => {
  const draft = draftOf(someEvidence())
  const id = acknowledgedIds(draft, ({ version }) => version > 1)[0]!
  const [{ invocation }] = acknowledgements(draft, id) as [ReturnType<typeof acknowledgements>[number]]
  for (const { orders } of readsOf(draft)) for (const row of orders) if (row.id === id) row.total++
  const { customer, key } = invocation.operation as { customer: string, key: string }
  const places = [draft.history, draft.settle].map(lines => lines.flatMap(line => line.type === 'invoke' && line.operation.kind === 'place' && line.operation.key === key ? line.op : []))
  const others = draft.history.flatMap(line => line.type === 'invoke' && 'id' in line.operation && line.operation.id === id ? line.op : [])
  const expected = [draft.history, draft.settle].flatMap((lines, part) => lines.filter(line => 'op' in line && (places[part]!.includes(line.op) || (part === 0 && others.includes(line.op)))))

  const [counterexample, ...more] = judge(draft).counterexamples
  t.same(more, [], 'an order has one counterexample')
  t.match(counterexample, { invariant: 'wrongContent', customer, key, orderId: id })
  t.same(new Set(counterexample!.lines), new Set(expected))
  t.same(counterexample!.lines.map(({ at }) => at), expected.map(({ at }) => at).sort((a, b) => a - b), 'the lines are sorted by time')
  t.match(counterexample!.stored, readsOf(draft).map(({ orders, events }, part) => ({
    read: part === 0 ? 'first' : 'second',
    orders: orders.filter(row => row.id === id),
    events: events!.filter(({ orderId }) => orderId === id)
  })))
})

test('the counterexample contains a page that shows what it should not', async t => {
  const draft = draftOf(someEvidence())
  const page = draft.history.find(line => line.type === 'ok' && line.ids !== undefined && line.ids.length > 0) as Draft<Line> & { ids: string[] }
  page.ids.push(page.ids[0]!)
  const [counterexample] = judge(draft).counterexamples
  t.match(counterexample, { invariant: 'duplicated', orderId: page.ids[0] })
  t.ok(counterexample!.lines.includes(page as never))
})

test('the counterexample of an oversold product contains its stock', async t => {
  const draft = draftOf(someEvidence())
  draft.second!.products![0]!.available--
  t.match(judge(draft).counterexamples, [{ invariant: 'oversold', lines: [], stored: [{ read: 'first', product: { sku: 'ale' } }, { read: 'second', available: draft.second!.products![0]!.available }] }])
})

test('the verdict has twenty counterexamples for each invariant in full, and counts all', async t => {
  const draft = draftOf(someEvidence(400))
  const ids = acknowledgedIds(draft)
  for (const id of ids) forget(draft, id)
  const { lost, counterexamples } = judge(draft)
  t.ok(ids.length > 20)
  t.equal(lost, ids.length)
  t.equal(counterexamples.length, 20)
})
