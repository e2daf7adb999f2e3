import type { ClaimedEvent } from '../../../orders/store.ts'
import { serve } from './serve.ts'

await serve(({ orders: { store, settle }, prisma }) => {
  const place = store.place.bind(store)
  const settleEvents = store.settleEvents.bind(store)
  const claimed = new WeakSet<ClaimedEvent>()

  store.claimEvents = async () => {
    const events = await prisma.$queryRaw<ClaimedEvent[]>`
      SELECT event.order_id AS "orderId", event.version, event.type, event.created_at AS "at", 1 AS attempts, o.customer, o.currency, o.total
        FROM outbox event JOIN orders o ON o.id = event.order_id
       WHERE event.tx > (SELECT coalesce(max(tx), 0) FROM outbox WHERE published_at IS NOT NULL)
       ORDER BY event.tx, event.version`
    for (const event of events) claimed.add(event)
    return events
  }
  // The first event of an order, too, is one that the cursor must find.
  store.settleEvents = async (published, failed) => await settleEvents(published.filter(event => claimed.has(event)), failed)
  store.place = async (batch, leaseMs) => {
    const placements = await place(batch, leaseMs)
    // Wakes the relay.
    void settle(async () => {}, { repeatable: false, proves: () => true })
    return placements
  }
})
