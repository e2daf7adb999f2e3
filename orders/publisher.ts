import type { Json, OrderEvent } from './order.ts'

/** An event as the broker gets it: plain JSON, ready for JSON.stringify. */
export type OrderMessage = ReturnType<typeof messageOf>

/** An event that the broker did not take, and why. */
export interface Refusal {
  message: OrderMessage
  reason: unknown
}

/**
 * The destination of the events: a fork plugs its broker in here.
 *
 * Delivery is at least once, and in order for each order. A consumer ignores a message if it has seen that `version` of that
 * `orderId`.
 */
export interface Publisher {
  /** The relay calls it before the first message, until it has resolved once. Orders are accepted meanwhile. Later the publisher reconnects by itself. */
  connect? (signal: AbortSignal): Promise<void>
  /**
   * Resolves once the broker has the messages for good, with the messages that it refused; with nothing if it took all.
   * Rejects if it took none, or if that is not known: the relay publishes all of them again, each in a call of its own.
   * The messages of a call are of different orders. `signal` aborts when the lease of the events is about to end.
   * If traces are on, the active context is that of this call.
   */
  publish (messages: OrderMessage[], signal: AbortSignal): Promise<Refusal[] | void>
  /** What is wrong with it, as a clause; undefined if nothing is. Shown at `/readyz?verbose`; it does not change readiness. */
  health? (): string | undefined
  close? (): Promise<void>
}

/** Does not compile with a member that JSON.stringify would refuse or change, such as a bigint or a Date. */
export function messageOf ({ orderId, version, type, detail, customer, currency, total, at, traceparent }: OrderEvent) {
  return {
    orderId,
    version,
    type,
    customer,
    currency,
    // Minor units. Exact: no total is above 2⁵³ − 1.
    total: Number(total),
    at: at.toISOString(),
    // One of { payment } and { refund }, with id and amount; { items, restock, refund }; { reason }.
    ...detail != null && { detail },
    // The trace context (W3C) of the event's cause, if it was sampled: for a header of the message, or a field of this name.
    ...traceparent != null && { traceparent }
  } satisfies Json
}
