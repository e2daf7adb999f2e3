import { Intake } from '../../../../orders/intake.ts'
import { serve } from './serve.ts'

// No flaw by itself: as with two instances, twins meet only in the database.
await serve(({ orders: { intake, store } }) => {
  const other = new Intake({ batchMax: 128, inFlight: 4, queueMax: 10_000, timeoutMs: () => 10_000, place: async batch => await store.place(batch) })
  const place = intake.place.bind(intake)
  let isOthers = false
  intake.place = async request => {
    isOthers = !isOthers
    return await (isOthers ? other.place(request) : place(request))
  }
})
