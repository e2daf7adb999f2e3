/** What is left for a call to another service. */
export interface Call {
  /** Aborts when the time is over. */
  signal: AbortSignal
  /** How long that is, in ms: the other side is told, and need not go on after it. */
  remainingMs: number
}

/** Who may order. */
export interface Customers {
  validate (customer: string, call: Call): Promise<CustomerStatus>
}

/** unknown: the directory has no such customer. */
export type CustomerStatus = 'active' | 'suspended' | 'unknown'

/**
 * The gateway. All of it may be asked again with the same ids: it does each once.
 *
 * Throws NotCalled where the gateway was certainly not reached. After any other error nobody knows whether it did what it was asked;
 * `find` and `findRefund` tell.
 */
export interface Payments {
  charge (charge: ChargeRequest, call: Call): Promise<Charge>
  /** Takes what was authorised. */
  capture (id: string, amount: bigint, call: Call): Promise<Charge>
  /** Lets go of what was authorised. */
  void (id: string, call: Call): Promise<Charge>
  /** @returns undefined where the gateway has no charge of this id */
  find (id: string, call: Call): Promise<Charge | undefined>
  refund (refund: RefundRequest, call: Call): Promise<Refund>
  /** @returns undefined where the gateway has no refund of this id */
  findRefund (id: string, call: Call): Promise<Refund | undefined>
}

export interface ChargeRequest {
  /** Of the payment: made here, once, and stored before the gateway is asked. It is the gateway's idempotency key. */
  id: string
  order: string
  customer: string
  /** Minor units. */
  amount: bigint
  /** ISO 4217. */
  currency: string
  /** Whether the money is taken at once; else it is authorised, and captured later. */
  captures: boolean
}

/** pending: the gateway is still at it, or the customer at `actionUrl`. */
export type ChargeState = 'pending' | 'authorised' | 'charged' | 'declined' | 'voided'

/** A charge, as the gateway has it. */
export interface Charge {
  state: ChargeState
  /** The gateway's own name for it. */
  reference: string
  /** Minor units. */
  amount: bigint
  currency: string
  /** Why it was declined. */
  reason?: string | undefined
  actionUrl?: string | undefined
}

export interface RefundRequest {
  /** As that of a charge. */
  id: string
  /** The payment's id. */
  charge: string
  /** Minor units. */
  amount: bigint
  currency: string
}

/** A refund, as the gateway has it. */
export interface Refund {
  state: 'pending' | 'refunded' | 'failed'
  reference: string
  /** Minor units. */
  amount: bigint
  reason?: string | undefined
}

/** The other side was certainly not reached, so it did nothing. */
export class NotCalled extends Error {
  override readonly name = 'NotCalled'
}
