import type { EventStored, OrderStored, Snapshot } from '../target.ts'
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
}

export function index (snapshot: Snapshot, afterSettling: boolean): Stored {
  return {
    snapshot,
    afterSettling,
    byKey: Map.groupBy(snapshot.orders, keyOf),
    byId: Map.groupBy(snapshot.orders, order => order.id),
    ...snapshot.events && { events: Map.groupBy(snapshot.events.toSorted((a, b) => a.version - b.version), event => event.orderId) }
  }
}
