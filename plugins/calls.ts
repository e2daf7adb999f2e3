import { Histogram } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { EndedCall } from './outbound.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Measures a call to another service. */
    observeCall (ended: EndedCall): void
  }
}

const outcomes = ['answered', 'not-called', 'unknown'] as const satisfies Array<EndedCall['outcome']>

/** The metrics of calls to other services. */
export default fp(async app => {
  const duration = new Histogram({
    name: 'outbound_call_duration_seconds',
    help: 'Time of a call to another service with all its attempts, by outcome; unknown: the other side may have done it',
    labelNames: ['service', 'call', 'outcome'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers: app.metrics.registers
  })
  const seen = new Set<string>()
  app.decorate('observeCall', ({ name: service, kind: call, outcome, durationMs }) => {
    const series = `${service} ${call}`
    if (!seen.has(series)) {
      seen.add(series)
      for (const outcome of outcomes) duration.zero({ service, call, outcome })
    }
    duration.observe({ service, call, outcome }, durationMs / 1_000)
  })
}, { name: 'calls', fastify: '5.x', dependencies: ['metrics'] })
