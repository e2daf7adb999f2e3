import type { Prisma } from '../../../prisma/generated/client.ts'
import type { PendingOrder } from '../../../orders/intake.ts'
import type { Placement } from '../../../orders/order.ts'
import { OrderStore, type StoreClient } from '../../../orders/store.ts'

/** Places a batch in a transaction that is open. (To place, the store begins none of its own, which this client could not.) */
export async function placeIn (transaction: Prisma.TransactionClient, batch: PendingOrder[]): Promise<Placement[]> {
  return await new OrderStore(transaction as unknown as StoreClient, () => 0).place(batch)
}
