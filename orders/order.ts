import type { Charge } from './ports.ts'

export const orderStatuses = ['placed', 'paid', 'shipped', 'delivered', 'cancelled'] as const
export type OrderStatus = typeof orderStatuses[number]

/** What happens to an order: it reaches a status; or money was given back, its capture failed and it can be paid again, or a part of it came back. */
export const orderEventTypes = [...orderStatuses, 'refunded', 'payment-failed', 'returned'] as const
export type OrderEventType = typeof orderEventTypes[number]

/**
 * The state machine: what each transition reaches, from where, and whether it is for staff alone. The money goes with it: nothing
 * but the gateway's word makes an order paid (orders/cashier.ts).
 */
export const transitions = {
  pay: { to: 'paid', from: ['placed'], staffOnly: false },
  ship: { to: 'shipped', from: ['paid'], staffOnly: true },
  deliver: { to: 'delivered', from: ['shipped'], staffOnly: true },
  cancel: { to: 'cancelled', from: ['placed', 'paid'], staffOnly: false }
} as const satisfies Record<string, { to: OrderStatus, from: OrderStatus[], staffOnly: boolean }>
export type Transition = keyof typeof transitions

/** What the service does itself: an order that is not paid in time (orders/expiry.ts), and one whose money could not be taken after all. */
export const serviceMoves = {
  expire: { to: 'cancelled', from: ['placed'] },
  'capture-failed': { to: 'placed', from: ['paid'] }
} as const satisfies Record<string, { to: OrderStatus, from: OrderStatus[] }>

/** charged, authorised, declined and voided are settled; of the others the settler asks the gateway. */
export const paymentStates = ['requested', 'unknown', 'pending', 'authorised', 'capturing', 'charged', 'declined', 'voiding', 'voided'] as const
export type PaymentState = typeof paymentStates[number]

/**
 * What moves a payment: the gateway's word, as settle_payment writes it down (not-called: before anybody else was at it), or what
 * becomes of its order, as move_order has it. Whatever is not here changes nothing.
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
  /** From 1. */
  attempt: number
  /** Minor units. */
  amount: bigint
  currency: string
  /** Whether the money is taken at once, or authorised and captured at the shipment. */
  captures: boolean
  state: PaymentState
  /** The gateway's own name for it. */
  reference: string | null
  /** Why it was declined. */
  reason: string | null
  /** Where the customer has still something to do. */
  actionUrl: string | null
  requestedAt: Date
  settledAt: Date | null
  refunds: OrderRefund[]
}

export const refundStates = ['requested', 'unknown', 'pending', 'refunded', 'failed'] as const
export type RefundState = typeof refundStates[number]

/** Money that is given back. */
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

/** A part of an order that came back, or that is not shipped at all. */
export interface OrderReturn {
  /** UUIDv7. */
  id: string
  orderId: string
  items: OrderItem[]
  /** Of these, in minor units. */
  value: bigint
  /** Whether they are for sale again. */
  restock: boolean
  /** Null: nothing was to be given back, or nothing was left. */
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
  /** 1 when placed, one more at each transition. */
  version: number
  createdAt: Date
}

/** What a customer asks for. */
export interface OrderRequest {
  customer: string
  idempotencyKey: string
  currency: string
  items: Array<{ sku: string, quantity: number }>
  reference: string | null
  /** What they were told that it costs, in minor units; where it costs something else, it is not to be placed. */
  expectedTotal?: number | undefined
}

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json }

/** Something that happened to an order, and the version that made. */
export interface OrderEvent {
  orderId: string
  version: number
  type: OrderEventType
  /** What a consumer needs beside it: the payment, the refund, what came back, or why. */
  detail?: Json | undefined
  customer: string
  currency: string
  /** Minor units. */
  total: bigint
  at: Date
  /** The trace context of what made it, where that was sampled. */
  traceparent?: string | null | undefined
}

/** What was made of a request for an order, by the transaction `tx`. A refusal means that nothing was stored. */
export type Placement =
  | { outcome: 'created', order: Order, tx: bigint, traceparent?: string | undefined }
  | { outcome: 'replayed', order: Order }
  | { outcome: 'key-reused' }
  | { outcome: 'unknown-product' | 'out-of-stock', sku: string }
  | { outcome: 'total-too-large' }
  /** Minor units: what it would cost now. */
  | { outcome: 'price-changed', total: bigint }

/** nothing-left: all of it came back, or all of its money was given back, and nothing is shipped. capture: its payment is to be captured first. payment-under-way: nothing was changed, as it is not known yet what becomes of it. */
export type Transitioned =
  | { outcome: 'moved' | 'already' | 'not-allowed' | 'version-mismatch' | 'nothing-left', order: Order }
  | { outcome: 'payment-under-way', order: Order, payment: Payment }
  | { outcome: 'capture', order: Order, payment: Payment }
  | { outcome: 'not-found' }
