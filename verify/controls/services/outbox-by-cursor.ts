import type { ClaimedEvent } from '../../../orders/store.ts'
import { serve } from './serve.ts'

await serve(({ orders: { store }, prisma }) => {
  store.claimEvents = async () => await prisma.$queryRaw<ClaimedEvent[]>`
    SELECT event.order_id AS "orderId", event.version, event.type, event.created_at AS "at", 1 AS attempts, o.customer, o.currency, o.total
      FROM outbox event JOIN orders o ON o.id = event.order_id
     WHERE event.tx > (SELECT coalesce(max(tx), 0) FROM outbox WHERE published_at IS NOT NULL)
     ORDER BY event.tx, event.version`
})
