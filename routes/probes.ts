import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'

const Probe = Type.Object({ status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]) })

/** For balancers and kubelets: a status and nothing more. What lies behind it is told on the ops port. */
const probes: FastifyPluginAsyncTypebox = async app => {
  const options = (summary: string) => ({
    config: { probe: true, drain: 'serve' as const },
    schema: { tags: ['probes'], summary, security: [], response: { 200: Probe, 503: Probe } }
  })

  // Nothing but the process: a liveness probe that asks the database makes a storm of restarts out of an outage.
  app.get('/livez', options('The process runs'), async () => ({ status: 'ok' as const }))

  app.get('/readyz', options('Traffic should come here'), async (_request, reply) => {
    const checks = await app.health.readiness()
    if (checks.every(check => check.ok)) return { status: 'ok' as const }
    reply.code(503)
    return { status: 'unavailable' as const }
  })

  app.get('/startupz', options('The start is over'), async (_request, reply) => {
    if (app.drain.state !== 'starting') return { status: 'ok' as const }
    reply.code(503)
    return { status: 'unavailable' as const }
  })
}

export default probes
