import type * as outbox from '../outbox/publisher.ts'
import type { Json, OrderEvent } from './order.ts'

/** An event as the broker gets it: plain JSON, ready for JSON.stringify. */
export type OrderMessage = ReturnType<typeof messageOf>

/**
 * The destination of the events of orders: a fork plugs its broker in here. A consumer ignores a message if it has seen that
 * `version` of that `orderId`.
 */
export type Publisher = outbox.Publisher<OrderMessage>

/** An event that the broker did not take, and why. */
export type Refusal = outbox.Refusal<OrderMessage>

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
