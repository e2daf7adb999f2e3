import { EventEmitter, on } from 'node:events'
import { initTRPC } from '@trpc/server'
import { z } from 'zod'
import { Pool } from '../pool.js'

const t = initTRPC.create()
const placed = new EventEmitter()

export const pool = new Pool()
export const closing = new AbortController() // drain: ends subscriptions

export const appRouter = t.router({
  placeOrder: t.procedure
    .input(z.object({ reference: z.string() }))
    .mutation(async ({ input }) => {
      await pool.query()
      placed.emit('order', input)
      return input
    }),
  placed: t.procedure.subscription(async function * ({ signal }) {
    const ended = AbortSignal.any([signal!, closing.signal]) // drain: where it was `signal` alone
    for await (const [order] of on(placed, 'order', { signal: ended })) yield order
  })
})

export type AppRouter = typeof appRouter
