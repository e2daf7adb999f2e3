import { performance } from 'node:perf_hooks'
import fp from 'fastify-plugin'

/** The loop is measured over one to two windows, in ms. */
const windowMs = 500

export interface Load {
  /** The share of the time that the event loop is busy, 0 to 1. */
  loop: number
  /** Queries that wait for a connection ÷ connections of the pool. */
  pool: number
  /** Orders that wait for a batch ÷ orders that fit into all batches under way at once. */
  intake: number
}

declare module 'fastify' {
  interface FastifyInstance {
    load: {
      now (): Load
    }
  }
}

export interface LoadOptions {
  /** Connections to the database, at most. */
  pool: number
  intake: { readonly batchMax: number, readonly inFlight: number }
}

/** How much this instance can take: one measure for all balancers that use weights. */
export default fp<LoadOptions>(async (app, { pool, intake }) => {
  const loop = watchLoop()
  app.decorate('load', {
    now: () => ({
      loop: loop.utilization(),
      pool: app.database.pool.waiting / pool,
      intake: app.orders.intake.queued / (intake.batchMax * intake.inFlight)
    })
  })
  app.addHook('onClose', async () => loop.stop())
}, { name: 'load', fastify: '5.x', dependencies: ['database'] })

/**
 * The share of its weight that an instance can take: (1 − loop ÷ 2) ÷ (1 + pool) ÷ (1 + intake).
 *
 * A busy loop takes at most half of the weight: full weighting makes load swing between instances above 50 %; half is stable.
 * A queue can take more: one as long as what is served at once halves the weight.
 */
export function spareOf ({ loop, pool, intake }: Load): number {
  return (1 - loop / 2) / (1 + pool) / (1 + intake)
}

/** The utilization of the loop since the mark before the last. */
function watchLoop (): { utilization: () => number, stop: () => void } {
  let last = performance.eventLoopUtilization()
  let beforeLast = last
  const timer = setInterval(() => {
    beforeLast = last
    last = performance.eventLoopUtilization()
  }, windowMs).unref()
  return {
    utilization: () => performance.eventLoopUtilization(beforeLast).utilization,
    stop: () => clearInterval(timer)
  }
}
