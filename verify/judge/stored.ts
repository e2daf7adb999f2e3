import type { EventStored, OrderStored, PaymentStored, RefundStored, Snapshot } from '../target.ts'
import { keyOf } from './told.ts'

/**
 * One of the two reads. Rows are kept as often as they were read: a set of them, or a map to one of them, would hide what is
 * stored twice.
 */
export interface Stored {
  readonly snapshot: Snapshot
  readonly afterSettling: boolean
  readonly byKey: ReadonlyMap<string, OrderStored[]>
  readonly byId: ReadonlyMap<string, OrderStored[]>
  /** By order, in the order of their versions. Absent where the target has no outbox. */
  readonly events?: ReadonlyMap<string, EventStored[]>
  /** By their own ids. Absent where the target tells of none. */
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

/** What consumers are told that an event is. */
export function toldAs ({ type, event = type }: EventStored): string {
  return event
}

/** The gateway has still to be asked what became of it. */
export function isOpen ({ state }: PaymentStored | RefundStored): boolean {
  return state === 'requested' || state === 'unknown' || state === 'pending' || state === 'capturing' || state === 'voiding'
}
