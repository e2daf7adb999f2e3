import { test, type Test } from 'tap'
import type { Delivery } from '../../target.ts'
import { type Change, type Draft, isCaught, isHeld, type Pick, unstream } from './damage.ts'

test('events that arrive at least once, in sequence for each order, are delivered', async t => {
  isHeld(t, delivering(() => {}))
  isHeld(t, delivering((deliveries, pick) => { deliveries.push(pick(deliveries)) }))
})

test('an event that the service calls delivered and the consumer never got is missing', async t => {
  isCaught(t, 'undelivered', delivering((deliveries, pick) => { deliveries.splice(deliveries.indexOf(pick(deliveries)), 1) }))
})

test('a change without an event counts as not delivered', async t => {
  isCaught(t, 'undelivered', (draft, pick) => {
    delivering((deliveries, pick) => { deliveries.splice(deliveries.indexOf(pick(deliveries)), 1) })(draft, pick)
    for (const read of [draft.first, draft.second]) delete read?.events
  })
})

test('an event that first arrives after a later one of its order is out of sequence', async t => {
  isCaught(t, 'undelivered', delivering((deliveries, pick) => {
    const later = pick(deliveries.filter(({ version }) => version > 1))
    const earlier = deliveries.findIndex(({ orderId, version }) => orderId === later.orderId && version === later.version - 1)
    deliveries.push(...deliveries.splice(earlier, 1))
  }))
})

test('a delivered event of a change that was never committed is caught', async t => {
  isCaught(t, 'undelivered', delivering(deliveries => { deliveries.push({ orderId: 'another', version: 1, type: 'placed' }) }))
  isCaught(t, 'undelivered', delivering((deliveries, pick) => { deliveries.push({ ...pick(deliveries), type: 'shipped' }) }))
})

test('an event that is no transition is delivered by its own name', async t => {
  for (const [type, check] of [['refunded', isHeld], ['paid', (t: Test, change: Change) => isCaught(t, 'undelivered', change)]] as const) {
    check(t, (draft, pick) => {
      const { orderId, version } = pick(draft.second?.events?.filter(({ type }) => type === 'paid') ?? [])
      for (const read of [draft.first, draft.second]) for (const event of read?.events ?? []) if (event.orderId === orderId && event.version === version) event.event = 'refunded'
      delivering(deliveries => {
        for (const delivery of deliveries) if (delivery.orderId === orderId && delivery.version === version) delivery.type = type
      })(draft, pick)
      unstream(draft, orderId)
    })
  }
})

/** The consumer received every stored event, in order; then this is changed. */
function delivering (change: (deliveries: Array<Draft<Delivery>>, pick: Pick) => void): Change {
  return (draft, pick) => {
    const deliveries = (draft.second?.events ?? []).map(({ orderId, version, type }) => ({ orderId, version, type }))
    change(deliveries, pick)
    draft.deliveries = deliveries
  }
}
