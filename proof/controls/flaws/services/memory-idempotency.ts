import { isDeepStrictEqual } from 'node:util'
import type { IntakeOutcome } from '../../../../orders/intake.ts'
import type { OrderRequest } from '../../../../orders/order.ts'
import { serve } from './serve.ts'

await serve(({ orders: { intake } }) => {
  const known = new Map<string, { request: OrderRequest, outcome: Promise<IntakeOutcome> }>()
  const place = intake.place.bind(intake)

  intake.place = async request => {
    const key = `${request.customer}\n${request.idempotencyKey}`
    const first = known.get(key)
    if (first === undefined) {
      const outcome = place(request)
      known.set(key, { request, outcome })
      const settled = await outcome
      // A refused request may have another outcome the next time.
      if (!('order' in settled)) known.delete(key)
      return settled
    }
    if (!isDeepStrictEqual(request, first.request)) return { outcome: 'key-reused' }
    const outcome = await first.outcome
    return 'order' in outcome ? { ...outcome, outcome: 'replayed' } : outcome
  }
})
