/** The time left for a call to another service. */
export interface Call {
  /** Aborts when the time is over. */
  signal: AbortSignal
  /** The same in ms, sent along so that the other service can stop in time. */
  remainingMs: number
}

/** The directory of customers: it says who may order. */
export interface Customers {
  validate (customer: string, call: Call): Promise<CustomerStatus>
}

/** unknown: the directory has no such customer. */
export type CustomerStatus = 'active' | 'suspended' | 'unknown'

/**
 * The payment gateway. Every call may be repeated with the same ids: the gateway does it once.
 *
 * Throws NotCalled if the gateway was certainly not reached. After any other error the outcome is unknown, and `find` and
 * `findRefund` tell it.
 */
export interface Payments {
  charge (charge: ChargeRequest, call: Call): Promise<Charge>
  /** Takes the authorised money. */
  capture (id: string, amount: bigint, call: Call): Promise<Charge>
  /** Releases the authorised money. */
  void (id: string, call: Call): Promise<Charge>
  /** @returns undefined if the gateway has no charge of this id */
  find (id: string, call: Call): Promise<Charge | undefined>
  refund (refund: RefundRequest, call: Call): Promise<Refund>
  /** @returns undefined if the gateway has no refund of this id */
  findRefund (id: string, call: Call): Promise<Refund | undefined>
}

export interface ChargeRequest {
  /** The payment's id, stored before the gateway is called. It is the gateway's idempotency key. */
  id: string
  order: string
  customer: string
  /** Minor units. */
  amount: bigint
  /** ISO 4217. */
  currency: string
  /** true: the gateway takes the money at once. false: it authorises it, and captures it later. */
  captures: boolean
}

/** pending: the gateway has not finished, or the customer has to act at `actionUrl`. */
export type ChargeState = 'pending' | 'authorised' | 'charged' | 'declined' | 'voided'

/** A charge, as the gateway has it. */
export interface Charge {
  state: ChargeState
  /** The gateway's own id for it. */
  reference: string
  /** Minor units. */
  amount: bigint
  currency: string
  /** Why it was declined. */
  reason?: string | undefined
  actionUrl?: string | undefined
}

export interface RefundRequest {
  /** The refund's id, with the same role as a charge's. */
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

/** The other service was certainly not reached, so it did nothing. */
export class NotCalled extends Error {
  override readonly name = 'NotCalled'
}
