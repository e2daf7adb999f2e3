import fp from 'fastify-plugin'
import { spareOf } from './load.ts'

/** How long a figure is reused, in ms: replies are more frequent than changes of the load. */
const maxAgeMs = 500
/** Envoy refuses a utilization of 0. */
const leastUtilization = 0.01

/**
 * Tells Envoy this instance's load with every reply, in the text format of ORCA (Open Request Cost Aggregation), for the policy
 * `client_side_weighted_round_robin`. The policy weights by requests per second ÷ utilization, and needs both. The utilization
 * is what the agent check for HAProxy subtracts from 100 %. Strip the header before it reaches clients. Source:
 * https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.proto
 */
export default fp(async app => {
  let header = ''
  let madeAt = -Infinity

  function metrics (): string {
    const now = performance.now()
    if (now - madeAt > maxAgeMs) {
      const utilization = Math.max(leastUtilization, 1 - spareOf(app.load.now()))
      header = `TEXT application_utilization=${utilization.toFixed(2)},rps_fractional=${app.traffic.requestsPerSecond().toFixed(1)},eps=${app.traffic.errorsPerSecond().toFixed(1)}`
      madeAt = now
    }
    return header
  }

  app.addHook('onSend', (_request, reply, payload, done) => {
    reply.header('endpoint-load-metrics', metrics())
    done(null, payload)
  })
}, { name: 'orca', fastify: '5.x', dependencies: ['load', 'traffic'] })
