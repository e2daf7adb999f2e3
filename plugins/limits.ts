import underPressure from '@fastify/under-pressure'
import fp from 'fastify-plugin'
import { notStarted } from './errors.ts'

const sampleIntervalMs = 1_000

/** Refuses, before anything is begun, what the process could not serve well. */
export default fp(async app => {
  let measuredSince = Infinity
  app.addHook('onListen', async () => {
    // What is measured first is the start, which keeps the loop busy like nothing after it.
    measuredSince = performance.now() + 2 * sampleIntervalMs
  })
  await app.register(underPressure, {
    // Not its utilization: a loop that is always busy and never late is full throughput; and refusals keep a loop busy, so that
    // they would bring more of themselves. What waits too long for the database is bounded by the intake's queue.
    maxEventLoopDelay: 1_000,
    sampleInterval: sampleIntervalMs,
    pressureHandler (request) {
      // Probes must be answered most of all under pressure.
      if (request.routeOptions.config.probe === true || performance.now() < measuredSince) return
      throw notStarted('The service is under pressure.')
    }
  })
}, { name: 'limits', fastify: '5.x', dependencies: ['fastify-drain'] })

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Asked by machines, all the time: never refused under pressure, and logged only for debugging. */
    probe?: boolean
  }
}
