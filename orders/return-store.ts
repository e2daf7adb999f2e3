import { Prisma, type PrismaClient } from '#prisma'
import type { DatabaseFunctions } from '../prisma/database-functions.ts'
import { recordedTraceparent } from '../tracing/trace-context.ts'
import { orderOf, paymentOf, returnOf, type StoredOrder, type StoredPayment, type StoredReturn } from './stored.ts'
import type { Order, OrderReturn, Payment } from './order.ts'

export interface ReturnRequest {
  /** Each SKU at most once. */
  items: Array<{ sku: string, quantity: number }>
  /** Whether the items are for sale again. */
  restock: boolean
  /** Whether to refund their value. */
  refund: boolean
  reason: string | null
  /** The token's `sub`. */
  returnedBy: string
  idempotencyKey: string
}

/** payment-under-way: the payment is not charged yet, so nothing can be refunded. A refusal means that nothing was stored. */
export type Returned =
  | { outcome: 'returned' | 'replayed', return: OrderReturn }
  | { outcome: 'key-reused' | 'not-found' }
  | { outcome: 'not-allowed', order: Order }
  | { outcome: 'payment-under-way', order: Order, payment: Payment }
  /** returnable: the quantity that can still be returned. */
  | { outcome: 'too-many', sku: string, returnable: number }

type StoredReturned =
  | { outcome: 'returned' | 'replayed', return: StoredReturn }
  | { outcome: 'key-reused' | 'not-found' }
  | { outcome: 'not-allowed', order: StoredOrder }
  | { outcome: 'payment-under-way', order: StoredOrder, payment: StoredPayment }
  | { outcome: 'too-many', sku: string, returnable: number }

/** The SQL of returns, in addition to the functions in prisma/migrations. Each write is one statement, as in store.ts. */
export class ReturnStore {
  readonly #prisma: Pick<PrismaClient, '$queryRaw'>
  readonly #functions: DatabaseFunctions

  constructor (prisma: Pick<PrismaClient, '$queryRaw'>, functions: DatabaseFunctions) {
    this.#prisma = prisma
    this.#functions = functions
  }

  /** Takes a part of an order back, once for each key of `returnedBy`: its stock, its refund and its event in one commit. @param id UUIDv7 */
  async take (id: string, orderId: string, { items, restock, refund, reason, returnedBy, idempotencyKey }: ReturnRequest): Promise<Returned> {
    return returnedOf(await this.#functions.call<StoredReturned>('return_items', Prisma.sql`
      ${id}::uuid, ${orderId}::uuid, ${JSON.stringify(items)}::jsonb, ${restock}, ${refund}, ${reason}, ${returnedBy}, ${idempotencyKey}, ${recordedTraceparent()}`))
  }

  /** The returns of an order, the oldest first; null if there is no such order. @param customer whose order it must be; null for anyone's */
  async ofOrder (orderId: string, customer: string | null): Promise<OrderReturn[] | null> {
    const [row] = await this.#prisma.$queryRaw<Array<{ returns: StoredReturn[] }>>`
      SELECT coalesce((SELECT json_agg(return_json(returned) ORDER BY returned.id) FROM order_returns returned WHERE returned.order_id = o.id), '[]') AS returns
        FROM orders o WHERE o.id = ${orderId}::uuid AND (${customer}::text IS NULL OR o.customer = ${customer})`
    return row === undefined ? null : row.returns.map(returnOf)
  }
}

function returnedOf (result: StoredReturned): Returned {
  switch (result.outcome) {
    case 'returned':
    case 'replayed': return { outcome: result.outcome, return: returnOf(result.return) }
    case 'not-allowed': return { outcome: result.outcome, order: orderOf(result.order) }
    case 'payment-under-way': return { outcome: result.outcome, order: orderOf(result.order), payment: paymentOf(result.payment) }
    case 'too-many': return { outcome: result.outcome, sku: result.sku, returnable: result.returnable }
    default: return { outcome: result.outcome }
  }
}
