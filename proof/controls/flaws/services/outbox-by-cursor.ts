import type { ClaimedEvent } from '../../../../orders/relay.ts'
import { serve } from './serve.ts'

await serve(({ orders: { store, settle }, prisma }) => {
  const place = store.place.bind(store)

  store.claimEvents = async () => {
    return await prisma.$queryRaw<ClaimedEvent[]>`
      SELECT event.order_id AS "orderId", event.version, event.type, event.created_at AS "at", 1 AS attempts, o.customer, o.currency, o.total
        FROM outbox event JOIN orders o ON o.id = event.order_id
       WHERE event.tx > (SELECT coalesce(max(tx), 0) FROM outbox WHERE available_at IS NULL)
       ORDER BY event.tx, event.version`
  }
  // The cursor must find the first event of an order, too, so that has no lease.
  store.settleOwn = async () => {}
  store.place = async batch => {
    const placements = await place(batch)
    // Wakes the relay.
    void settle(async () => {}, { repeatable: false, proves: () => true })
    return placements
  }
})
