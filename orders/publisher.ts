import type { Json, OrderEvent } from './order.ts'

/** An event as it leaves: plain JSON, to be given to JSON.stringify as it is. */
export type OrderMessage = ReturnType<typeof messageOf>

/** An event that the broker did not take, and why. */
export interface Refusal {
  message: OrderMessage
  reason: unknown
}

/**
 * Where the events go: a fork plugs its broker in here.
 *
 * Delivery is at least once, and in order for each order. A consumer ignores a message whose `version` of that `orderId`
 * it has seen.
 */
export interface Publisher {
  /** Called before the first message, until it has resolved once. Orders are taken meanwhile. A later reconnect is the publisher's own. */
  connect? (signal: AbortSignal): Promise<void>
  /**
   * Resolves once the broker has the messages for good, with those that it refused; with nothing where it took all.
   * Rejects where it took none, or where that is not known: they are all published again, each in a call of its own.
   * No two of a call are of one order. `signal` aborts when the lease of the events is about to end.
   * Where traces are made, the active context is that of this call.
   */
  publish (messages: OrderMessage[], signal: AbortSignal): Promise<Refusal[] | void>
  /** What is wrong with it, as a clause; undefined where nothing is. Shown at `/readyz?verbose`, and never a reason to be not ready. */
  health? (): string | undefined
  close? (): Promise<void>
}

/** A member that JSON.stringify would refuse or change, as a bigint or a Date, does not compile. */
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
    // Of what came with it: { payment } or { refund }, with id and amount; { items, restock, refund }; { reason }.
    ...detail != null && { detail },
    // The trace context of what made the event (W3C), where that was sampled: for a header of the message, or a field of this name.
    ...traceparent != null && { traceparent }
  } satisfies Json
}
