import underPressure from '@fastify/under-pressure'
import fp from 'fastify-plugin'
import { notStarted } from './errors.ts'

const sampleIntervalMs = 1_000

/** Refuses requests under pressure, before anything is begun. */
export default fp(async app => {
  let measuredSince = Infinity
  app.addHook('onListen', async () => {
    // The first samples measure the start, which delays the loop more than any load.
    measuredSince = performance.now() + 2 * sampleIntervalMs
  })
  await app.register(underPressure, {
    // The delay, not the utilization: a busy loop without delay is full throughput. Refusals keep a loop busy, too, and would
    // cause more refusals. The intake's queue bounds what waits for the database.
    maxEventLoopDelay: 1_000,
    sampleInterval: sampleIntervalMs,
    pressureHandler (request) {
      // Probes need their answer most under pressure.
      if (request.routeOptions.config.probe === true || performance.now() < measuredSince) return
      throw notStarted('The service is under pressure.')
    }
  })
}, { name: 'limits', fastify: '5.x', dependencies: ['fastify-drain'] })

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Machines ask it all the time: it is never refused under pressure, and logged only at debug. */
    probe?: boolean
  }
}
