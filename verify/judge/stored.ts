import type { EventStored, OrderStored, PaymentStored, RefundStored, Snapshot } from '../target.ts'
import { keyOf } from './told.ts'

/**
 * One of the two reads. Rows are kept as often as they were read: a set, or a map to single rows, would hide duplicates.
 */
export interface Stored {
  readonly snapshot: Snapshot
  readonly afterSettling: boolean
  readonly byKey: ReadonlyMap<string, OrderStored[]>
  readonly byId: ReadonlyMap<string, OrderStored[]>
  /** Events by order id, sorted by version. Absent if the target has no outbox. */
  readonly events?: ReadonlyMap<string, EventStored[]>
  /** Payments by their own ids. Absent if the target shows none. */
  readonly payments?: ReadonlyMap<string, PaymentStored>
  readonly refunds?: ReadonlyMap<string, RefundStored>
}

export function index (snapshot: Snapshot, afterSettling: boolean): Stored {
  return {
    snapshot,
    afterSettling,
    byKey: Map.groupBy(snapshot.orders, keyOf),
    byId: Map.groupBy(snapshot.orders, order => order.id),
    ...snapshot.events && { events: Map.groupBy(snapshot.events.toSorted((a, b) => a.version - b.version), event => event.orderId) },
    ...snapshot.payments && { payments: new Map(snapshot.payments.map(payment => [payment.id, payment])) },
    ...snapshot.refunds && { refunds: new Map(snapshot.refunds.map(refund => [refund.id, refund])) }
  }
}

/** The type of an event that consumers get. */
export function toldAs ({ type, event = type }: EventStored): string {
  return event
}

/** The service must still ask the gateway for the outcome. */
export function isOpen ({ state }: PaymentStored | RefundStored): boolean {
  return state === 'requested' || state === 'unknown' || state === 'pending' || state === 'capturing' || state === 'voiding'
}
