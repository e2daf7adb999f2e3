import { test } from 'tap'
import type { Draft } from './damage.ts'
import type { EventStored } from '../../target.ts'
import { eventsOf, exchanges, isCaught, isHeld, readsOf, rowsOf, stockUp, storedIds, unstream } from './damage.ts'

function dropEvents (draft: Parameters<typeof readsOf>[0], is: (event: Draft<EventStored>) => boolean): void {
  for (const read of readsOf(draft)) read.events = read.events!.filter(event => !is(event))
}

test('an order without its placed event is caught', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => {
    const id = pick(storedIds(draft))
    dropEvents(draft, ({ orderId, version }) => orderId === id && version === 1)
    unstream(draft, id)
  })
})

test('an order without the event of its last transition is caught', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => {
    const { id, version: last } = pick(draft.first!.orders.filter(({ version }) => version > 1))
    dropEvents(draft, ({ orderId, version }) => orderId === id && version === last)
    unstream(draft, id)
  })
})

test('an event that is stored twice is caught', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => {
    const { orderId, version } = pick(draft.first!.events!)
    for (const { events } of readsOf(draft)) events!.push({ ...events!.find(event => event.orderId === orderId && event.version === version)! })
  })
})

test('an event without an order is caught', async t => {
  isCaught(t, 'outboxMissing', draft => {
    for (const { events } of readsOf(draft)) events!.push({ orderId: 'another', version: 1, type: 'placed', delivered: true })
  })
})

test('a first event other than placed does not replace the placed event', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => {
    const id = pick(storedIds(draft, ({ version }) => version === 1))
    for (const event of eventsOf(draft, id)) event.type = 'paid'
    for (const row of rowsOf(draft, id)) row.status = 'paid'
    unstream(draft, id)
  }, ['phantom', 'wrongRead', 'resurrected'])
})

test('an event that was never delivered is missing', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => { pick(draft.second!.events!).delivered = false })
})

test('an event that a client got and that is not stored is missing', async t => {
  isCaught(t, 'outboxMissing', (draft, pick) => {
    const { customer, id, version } = pick(draft.first!.orders)
    draft.history.push({ type: 'event', at: 1e6, customer, event: { orderId: id, version: version + 1, type: 'shipped' } })
  })
})

test('an event that a stream repeats is no fault', async t => {
  isHeld(t, (draft, pick) => draft.history.push({ ...pick(draft.history.filter(line => line.type === 'event')) }))
})

test('an event that was delivered only after the settling is no fault', async t => {
  isHeld(t, (draft, pick) => { pick(draft.first!.events!).delivered = false })
})

test('a transition that the state machine does not have is caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    const { id, version, items } = pick(draft.first!.orders.filter(({ status }) => status === 'cancelled'))
    for (const row of rowsOf(draft, id)) Object.assign(row, { status: 'shipped', version: version + 1 })
    for (const { events } of readsOf(draft)) events!.push({ orderId: id, version: version + 1, type: 'shipped', delivered: true })
    stockUp(draft, items)
  }, ['phantom'])
})

test('a skipped version is caught', async t => {
  // A missing event in the middle gives the same evidence.
  isCaught(t, 'state', (draft, pick) => {
    const id = pick(storedIds(draft, ({ version }) => version === 2))
    for (const row of rowsOf(draft, id)) row.version++
    for (const event of eventsOf(draft, id)) if (event.version === 2) event.version++
    unstream(draft, id)
  }, ['outboxMissing'])
})

test('two events that made the same version are caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    const id = pick(storedIds(draft, ({ version, status }) => version === 2 && status === 'paid'))
    for (const { events } of readsOf(draft)) events!.unshift({ orderId: id, version: 2, type: 'cancelled', delivered: true })
    // Otherwise the transition between the two would be caught.
    draft.transitions = undefined
  }, ['outboxMissing', 'phantom', 'resurrected'])
})

test('a status without an event is caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    for (const row of rowsOf(draft, pick(storedIds(draft, ({ version }) => version === 1)))) row.status = 'paid'
  }, ['wrongRead'])
})

test('an event after the last version is caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    const id = pick(storedIds(draft, ({ version }) => version === 1))
    for (const { events } of readsOf(draft)) events!.push({ orderId: id, version: 2, type: 'paid', delivered: true })
  }, ['phantom', 'resurrected'])
})

test('two transitions acknowledged at one version with different states are caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type, order }) => kind === 'pay' && type === 'ok' && rowsOf(draft, order!.id)[0]!.version === 2))
    const { order } = completion
    draft.history.push(
      { type: 'invoke', op: 10_001, at: 1e6, scheduled: 1e6, purpose: 'transition', operation: { kind: 'cancel', customer: rowsOf(draft, order!.id)[0]!.customer, id: order!.id } },
      { type: 'ok', op: 10_001, at: 1e6, status: 200, order: { ...order!, status: 'cancelled' } }
    )
    // Otherwise the stored data would contradict one of them, too.
    draft.first = draft.second = undefined
  })
})

test('an event that first arrives after a later one is caught', async t => {
  isCaught(t, 'state', (draft, pick) => {
    const { orderId } = pick(draft.history.flatMap(line => line.type === 'event' && line.event.version === 2 ? line.event : []))
    const [placed] = draft.history.filter(line => line.type === 'event' && line.event.orderId === orderId)
    draft.history.splice(draft.history.indexOf(placed!), 1)
    draft.history.push(placed!)
  })
})

test('a stream that begins after the first event of an order is no fault', async t => {
  isHeld(t, (draft, pick) => {
    const { orderId } = pick(draft.history.flatMap(line => line.type === 'event' && line.event.version === 2 ? line.event : []))
    unstream(draft, orderId, version => version === 1)
  })
})

test('a refund makes a version and an event of its own, and no transition', async t => {
  isHeld(t, (draft, pick) => moneyEvent(draft, pick(paidIds(draft)), { event: 'refunded' }))
  isCaught(t, 'state', (draft, pick) => moneyEvent(draft, pick(paidIds(draft)), {}))
})

function paidIds (draft: Parameters<typeof readsOf>[0]): string[] {
  return storedIds(draft, ({ status }) => status === 'paid')
}

/** Adds a version with the same state. */
function moneyEvent (draft: Parameters<typeof readsOf>[0], id: string, of: Pick<EventStored, 'event'>): void {
  for (const row of rowsOf(draft, id)) row.version++
  for (const read of readsOf(draft)) read.events?.push({ orderId: id, version: 3, type: 'paid', delivered: true, ...of })
}
