export const orderStatuses = ['placed', 'paid', 'shipped', 'delivered', 'cancelled'] as const
export type OrderStatus = typeof orderStatuses[number]

/** The state machine: what each transition reaches, from where, and whether it is for staff alone. */
export const transitions = {
  pay: { to: 'paid', from: ['placed'], staffOnly: false },
  ship: { to: 'shipped', from: ['paid'], staffOnly: true },
  deliver: { to: 'delivered', from: ['shipped'], staffOnly: true },
  cancel: { to: 'cancelled', from: ['placed', 'paid'], staffOnly: false }
} as const satisfies Record<string, { to: OrderStatus, from: OrderStatus[], staffOnly: boolean }>
export type Transition = keyof typeof transitions

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
}

/** Something that happened to an order: the state it reached, and the version that made. */
export interface OrderEvent {
  orderId: string
  version: number
  type: OrderStatus
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

export type Transitioned =
  | { outcome: 'moved' | 'already' | 'not-allowed' | 'version-mismatch', order: Order }
  | { outcome: 'not-found' }
