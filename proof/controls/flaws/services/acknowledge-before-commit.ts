import { setTimeout as delay } from 'node:timers/promises'
import { placeIn } from './place-in.ts'
import { serve } from './serve.ts'

/** Time from the answer to the commit. */
const laterMs = 100

await serve(({ orders: { store }, prisma }) => {
  store.place = async batch => await new Promise((resolve, reject) => {
    prisma.$transaction(async transaction => {
      resolve(await placeIn(transaction, batch))
      await delay(laterMs)
    }).catch(reject)
  })
})
