import { placeIn } from './place-in.ts'
import { serve } from './serve.ts'

// Prisma sends COMMIT, Postgres answers ROLLBACK, and that is no error to either (prisma/orm#20496).
await serve(({ orders: { store }, prisma }) => {
  store.place = async batch => await prisma.$transaction(async transaction => {
    const placements = await placeIn(transaction, batch)
    for (const { customer } of batch) {
      await transaction.$executeRaw`INSERT INTO known_customers VALUES (${customer})`.catch(() => {
        // The key is known already.
      })
    }
    return placements
  })
})
