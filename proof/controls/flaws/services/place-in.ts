import type { Prisma } from '../../../../prisma/generated/client.ts'
import type { PendingOrder } from '../../../../orders/intake.ts'
import type { Placement } from '../../../../orders/order.ts'
import { OrderStore } from '../../../../orders/store.ts'
import { DatabaseFunctions } from '../../../../prisma/database-functions.ts'

/** Places a batch in an open transaction. */
export async function placeIn (transaction: Prisma.TransactionClient, batch: PendingOrder[]): Promise<Placement[]> {
  return await new OrderStore(transaction, new DatabaseFunctions(transaction)).place(batch)
}
