import { hash } from 'node:crypto'
import type { Charge } from './ports.ts'

export const orderStatuses = ['placed', 'paid', 'shipped', 'delivered', 'cancelled'] as const
export type OrderStatus = typeof orderStatuses[number]

/** An order reaches a status; or it is refunded; or its capture failed and it can be paid again; or items of it are returned. */
export const orderEventTypes = [...orderStatuses, 'refunded', 'payment-failed', 'returned'] as const
export type OrderEventType = typeof orderEventTypes[number]

/**
 * The state machine: the target and the sources of each transition, and whether it is for staff alone. Only the gateway's answer
 * makes an order paid (orders/cashier.ts).
 */
export const transitions = {
  pay: { to: 'paid', from: ['placed'], staffOnly: false },
  ship: { to: 'shipped', from: ['paid'], staffOnly: true },
  deliver: { to: 'delivered', from: ['shipped'], staffOnly: true },
  cancel: { to: 'cancelled', from: ['placed', 'paid'], staffOnly: false }
} as const satisfies Record<string, { to: OrderStatus, from: OrderStatus[], staffOnly: boolean }>
export type Transition = keyof typeof transitions

/** The transitions that the service makes itself: an order is not paid in time (orders/expiry.ts), or the capture of its payment failed. */
export const serviceMoves = {
  expire: { to: 'cancelled', from: ['placed'] },
  'capture-failed': { to: 'placed', from: ['paid'] }
} as const satisfies Record<string, { to: OrderStatus, from: OrderStatus[] }>

/** charged, authorised, declined and voided are settled. The settler asks the gateway about a payment in any other state. */
export const paymentStates = ['requested', 'unknown', 'pending', 'authorised', 'capturing', 'charged', 'declined', 'voiding', 'voided'] as const
export type PaymentState = typeof paymentStates[number]

/**
 * What moves a payment: the gateway's answer, as settle_payment stores it (not-called: only before the first retry), or a
 * transition of its order, as in move_order. Anything else changes nothing.
 */
export const paymentMoves = [
  { by: 'charged', from: ['requested', 'unknown', 'pending', 'capturing', 'voiding'], to: 'charged' },
  { by: 'authorised', from: ['requested', 'unknown', 'pending'], to: 'authorised' },
  { by: 'pending', from: ['requested', 'unknown'], to: 'pending' },
  { by: 'declined', from: ['requested', 'unknown', 'pending', 'capturing'], to: 'declined' },
  { by: 'voided', from: ['requested', 'unknown', 'pending', 'capturing'], to: 'declined' },
  { by: 'not-called', from: ['requested'], to: 'declined' },
  { by: 'unknown', from: ['requested'], to: 'unknown' },
  { by: 'declined', from: ['voiding'], to: 'voided' },
  { by: 'voided', from: ['voiding'], to: 'voided' },
  { by: 'ship', from: ['authorised'], to: 'capturing' },
  { by: 'cancel', from: ['authorised', 'pending'], to: 'voiding' }
] as const satisfies Array<{ by: Charge['state'] | 'unknown' | 'not-called' | Transition, from: PaymentState[], to: PaymentState }>

/** An attempt to pay for an order. */
export interface Payment {
  /** UUIDv7. */
  id: string
  orderId: string
  /** Starts at 1. */
  attempt: number
  /** Minor units. */
  amount: bigint
  currency: string
  /** true: the gateway takes the money at once. false: it authorises it, and captures it at the shipment. */
  captures: boolean
  state: PaymentState
  /** The gateway's own id for it. */
  reference: string | null
  /** Why it was declined. */
  reason: string | null
  /** The page on which the customer has to act. */
  actionUrl: string | null
  requestedAt: Date
  settledAt: Date | null
  refunds: OrderRefund[]
}

export const refundStates = ['requested', 'unknown', 'pending', 'refunded', 'failed'] as const
export type RefundState = typeof refundStates[number]

/** Money that the customer gets back. */
export interface OrderRefund {
  id: string
  paymentId: string
  orderId: string
  /** Minor units. */
  amount: bigint
  currency: string
  state: RefundState
  why: string
  reference: string | null
  /** Why it failed. */
  reason: string | null
  requestedAt: Date
  settledAt: Date | null
}

/** Items of an order that came back, or that are never shipped. */
export interface OrderReturn {
  /** UUIDv7. */
  id: string
  orderId: string
  items: OrderItem[]
  /** The value of the items, in minor units. */
  value: bigint
  /** Whether the items are for sale again. */
  restock: boolean
  /** null: no refund was asked for, or no money was left. */
  refund: OrderRefund | null
  reason: string | null
  createdAt: Date
}

/** The largest total, in minor units: what a JSON number holds exactly. */
export const totalMax = Number.MAX_SAFE_INTEGER

export interface OrderItem {
  sku: string
  quantity: number
  /** Minor units of the order's currency. */
  unitPrice: bigint
}

export interface Order {
  /** UUIDv7. */
  id: string
  customer: string
  status: OrderStatus
  /** ISO 4217. */
  currency: string
  items: OrderItem[]
  /** Minor units. */
  total: bigint
  reference: string | null
  /** 1 when placed; each transition adds 1. */
  version: number
  createdAt: Date
}

/** A customer's request for an order. */
export interface OrderRequest {
  customer: string
  idempotencyKey: string
  currency: string
  items: Array<{ sku: string, quantity: number }>
  reference: string | null
  /** The total that the customer was told, in minor units. If the order costs something else, it is not placed. */
  expectedTotal?: number | undefined
}

/**
 * Identifies the content of a request: the same key with another fingerprint is refused. SHA-256, in hex. A field that was added
 * later counts only if it is given, so that retries of older requests keep their fingerprint.
 */
export function fingerprintOf ({ currency, items, reference, expectedTotal }: OrderRequest): string {
  const asked: unknown[] = [currency, items.map(({ sku, quantity }) => [sku, quantity]), reference]
  if (expectedTotal !== undefined) asked.push(expectedTotal)
  return hash('sha256', JSON.stringify(asked))
}

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json }

/** Something that happened to an order, and the version that resulted. */
export interface OrderEvent {
  orderId: string
  version: number
  type: OrderEventType
  /** What else a consumer needs: the payment, the refund, the returned items, or the reason. */
  detail?: Json | undefined
  customer: string
  currency: string
  /** Minor units. */
  total: bigint
  at: Date
  /** The trace context of the cause, if it was sampled. */
  traceparent?: string | null | undefined
}

/** The outcome of a request for an order; `tx` is the transaction that created it. A refusal means that nothing was stored. */
export type Placement =
  | { outcome: 'created', order: Order, tx: bigint, traceparent?: string | undefined }
  | { outcome: 'replayed', order: Order }
  | { outcome: 'key-reused' }
  | { outcome: 'unknown-product' | 'out-of-stock', sku: string }
  | { outcome: 'total-too-large' }
  /** What the order would cost now, in minor units. */
  | { outcome: 'price-changed', total: bigint }

/**
 * nothing-left: all items were returned or all money was refunded, so there is nothing to ship. capture: its payment has to be
 * captured first. payment-under-way: nothing was changed, because the outcome of the payment is not known yet.
 */
export type Transitioned =
  | { outcome: 'moved' | 'already' | 'not-allowed' | 'version-mismatch' | 'nothing-left', order: Order }
  | { outcome: 'payment-under-way', order: Order, payment: Payment }
  | { outcome: 'capture', order: Order, payment: Payment }
  | { outcome: 'not-found' }
