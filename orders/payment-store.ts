import { Prisma, type PrismaClient } from '#prisma'
import type { DatabaseFunctions } from '../prisma/database-functions.ts'
import { recordedTraceparent } from '../tracing/trace-context.ts'
import { orderOf, paymentOf, refundOf, type StoredOrder, type StoredPayment, type StoredRefund } from './stored.ts'
import type { Order, OrderRefund, OrderStatus, Payment, PaymentState, RefundState } from './order.ts'

/** begun: the payment is stored, and the caller has to charge it. under-way: another payment of this order is not settled. paid: the order costs nothing. */
export type PaymentBegun =
  | { outcome: 'begun', order: Order, payment: Payment }
  | { outcome: 'under-way', order: Order, payment: Payment }
  | { outcome: 'paid', order: Order }
  | { outcome: 'already' | 'not-allowed' | 'version-mismatch', order: Order }
  | { outcome: 'not-found' }

export type RefundBegun =
  | { outcome: 'begun', refund: OrderRefund }
  | { outcome: 'replayed', refund: OrderRefund }
  | { outcome: 'key-reused' | 'not-found' | 'not-charged' }
  /** The minor units that can still be refunded. */
  | { outcome: 'too-much', refundable: bigint }

/** What a call to the gateway has shown: a state, or `unknown`: it gave no answer, or `not-called`: it was certainly not called. */
export interface GatewayAnswer<State> {
  said: State | 'unknown' | 'not-called'
  reference?: string | undefined
  reason?: string | undefined
  actionUrl?: string | undefined
  /** Why there is no answer, for an operator. */
  error?: string | undefined
  /** The time until the next call, in ms, if this settles nothing. */
  retryMs: number
}

export interface SettledPayment {
  /** Whether there is nothing more to ask. */
  isSettled: boolean
  order: Order
  payment: Payment
  /** The status that the order reached by this; null if it did not move now. */
  movedTo: OrderStatus | null
}

export interface DuePayment {
  id: string
  orderId: string
  customer: string
  amount: bigint
  currency: string
  captures: boolean
  state: PaymentState
  tries: number
  /** The time since it was requested, in ms. */
  ageMs: number
}

export interface DueRefund {
  id: string
  paymentId: string
  orderId: string
  amount: bigint
  currency: string
  state: RefundState
  tries: number
  ageMs: number
}

/** What waits for the gateway's answer. */
export interface Unsettled {
  payments: number
  refunds: number
  /** The age of the one that has waited longest, in s; 0 if none waits. */
  oldestS: number
}

/** The SQL of payments and refunds, in addition to the functions in prisma/migrations. Each write is one statement, as in store.ts. */
export class PaymentStore {
  readonly #prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>
  readonly #functions: DatabaseFunctions

  constructor (prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>, functions: DatabaseFunctions) {
    this.#prisma = prisma
    this.#functions = functions
  }

  /**
   * Stores the intent to pay an order, before the gateway is called. Harmless to repeat with the same id.
   *
   * @param id UUIDv7
   * @param customer whose order it must be; null for anyone's
   * @param leaseMs how long the caller has the payment for itself
   */
  async begin (
    id: string,
    orderId: string,
    customer: string | null,
    expectedVersions: number[] | null,
    captures: boolean,
    leaseMs: number
  ): Promise<PaymentBegun> {
    const begun = await this.#functions.callPrepared<{ outcome: PaymentBegun['outcome'], order: StoredOrder, payment: StoredPayment }>('begin_payment', Prisma.sql`
      ${id}::uuid, ${orderId}::uuid, ${customer}, ${expectedVersions}::integer[], ${captures}, ${leaseMs}::integer, ${recordedTraceparent()}`)
    const { outcome } = begun
    if (outcome === 'not-found') return { outcome }
    if (outcome === 'begun' || outcome === 'under-way') return { outcome, order: orderOf(begun.order), payment: paymentOf(begun.payment) }
    return { outcome, order: orderOf(begun.order) }
  }

  /** Stores the gateway's answer about a payment; the order moves with it. */
  async settle (id: string, { said, reference, reason, actionUrl, error, retryMs }: GatewayAnswer<string>): Promise<SettledPayment> {
    const settled = await this.#functions.callPrepared<{ outcome: 'settled' | 'open', order: StoredOrder, payment: StoredPayment, movedTo: OrderStatus | null }>('settle_payment', Prisma.sql`
      ${id}::uuid, ${said}, ${reference ?? null}, ${reason ?? null}, ${actionUrl ?? null}, ${retryMs}::integer, ${error ?? null}, ${recordedTraceparent()}`)
    return { isSettled: settled.outcome === 'settled', order: orderOf(settled.order), payment: paymentOf(settled.payment), movedTo: settled.movedTo }
  }

  /** Stores the intent to refund, once for each key of `askedBy`. @param amount null: all that is left */
  async beginRefund (
    id: string,
    orderId: string,
    { amount, why, askedBy, idempotencyKey }: { amount: bigint | null, why: string | null, askedBy: string, idempotencyKey: string },
    leaseMs: number
  ): Promise<RefundBegun> {
    const begun = await this.#functions.call<{ outcome: RefundBegun['outcome'], refund: StoredRefund, refundable: number }>('begin_refund', Prisma.sql`
      ${id}::uuid, ${orderId}::uuid, ${amount}::bigint, ${why}, ${askedBy}, ${idempotencyKey}, ${leaseMs}::integer`)
    const { outcome } = begun
    if (outcome === 'begun' || outcome === 'replayed') return { outcome, refund: refundOf(begun.refund) }
    return outcome === 'too-much' ? { outcome, refundable: BigInt(begun.refundable) } : { outcome }
  }

  async settleRefund (id: string, { said, reference, reason, error, retryMs }: GatewayAnswer<string>): Promise<{ isSettled: boolean, refund: OrderRefund }> {
    const settled = await this.#functions.call<{ outcome: 'settled' | 'open', refund: StoredRefund }>('settle_refund', Prisma.sql`
      ${id}::uuid, ${said}, ${reference ?? null}, ${reason ?? null}, ${retryMs}::integer, ${error ?? null}, ${recordedTraceparent()}`)
    return { isSettled: settled.outcome === 'settled', refund: refundOf(settled.refund) }
  }

  /** Leases payments that are due for `leaseMs`: no other instance gets them before that is over. */
  async claim (limit: number, leaseMs: number): Promise<DuePayment[]> {
    return await this.#prisma.$queryRaw<DuePayment[]>`SELECT * FROM claim_payments(${limit}::integer, ${leaseMs}::integer)`
  }

  async claimRefunds (limit: number, leaseMs: number): Promise<DueRefund[]> {
    return await this.#prisma.$queryRaw<DueRefund[]>`SELECT * FROM claim_refunds(${limit}::integer, ${leaseMs}::integer)`
  }

  /** The gateway has news of a payment or a refund, so it is due now. A payment in state `requested` stays with the request that makes it. */
  async hurry (id: string): Promise<void> {
    await this.#prisma.$executeRaw`
      WITH payment AS (UPDATE payments SET due_at = now() WHERE id = ${id}::uuid AND due_at > now() AND state IN ('unknown', 'pending'))
      UPDATE refunds SET due_at = now() WHERE id = ${id}::uuid AND due_at > now() AND state IN ('unknown', 'pending')`
  }

  /** The payments of an order, the oldest first; null if there is no such order. */
  async ofOrder (orderId: string, customer: string | null): Promise<Payment[] | null> {
    const [row] = await this.#prisma.$queryRaw<Array<{ payments: StoredPayment[] }>>`
      SELECT coalesce((SELECT json_agg(payment_json(payment) ORDER BY payment.attempt) FROM payments payment WHERE payment.order_id = o.id), '[]') AS payments
        FROM orders o WHERE o.id = ${orderId}::uuid AND (${customer}::text IS NULL OR o.customer = ${customer})`
    return row === undefined ? null : row.payments.map(paymentOf)
  }

  async unsettled (): Promise<Unsettled> {
    const [row] = await this.#prisma.$queryRaw<Unsettled[]>`
      SELECT (SELECT count(*) FROM payments WHERE due_at IS NOT NULL)::float8 AS payments,
             (SELECT count(*) FROM refunds WHERE due_at IS NOT NULL)::float8 AS refunds,
             coalesce(extract(epoch FROM now() - least((SELECT min(open_since) FROM payments WHERE due_at IS NOT NULL AND state <> 'pending'),
                                                       (SELECT min(requested_at) FROM refunds WHERE due_at IS NOT NULL AND state <> 'pending'))), 0)::float8 AS "oldestS"`
    return row ?? { payments: 0, refunds: 0, oldestS: 0 }
  }
}
