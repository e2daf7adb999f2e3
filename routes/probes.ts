import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { answer, httpResponses } from './schemas.ts'

const Probe = Type.Object({ status: Type.Union([Type.Literal('ok'), Type.Literal('unavailable')]) })

/** For balancers and kubelets: only a status. The ops port gives the details. */
const probes: FastifyPluginAsyncTypebox = async app => {
  const options = (operationId: string, summary: string) => ({
    config: { probe: true, drain: 'serve' as const },
    schema: { operationId, tags: ['probes'], summary, security: [], response: { 200: answer(Probe, 'Yes'), ...httpResponses(), 503: answer(Probe, 'No') } }
  })

  // Only the process: a liveness probe that asks the database turns an outage into a storm of restarts.
  app.get('/livez', options('isAlive', 'The process runs'), async () => ({ status: 'ok' as const }))

  app.get('/readyz', options('isReady', 'Traffic should come here'), async (_request, reply) => {
    const checks = await app.health.readiness()
    if (checks.every(check => check.ok)) return { status: 'ok' as const }
    reply.code(503)
    return { status: 'unavailable' as const }
  })

  app.get('/startupz', options('isStarted', 'The start is over'), async (_request, reply) => {
    if (app.drain.state !== 'starting') return { status: 'ok' as const }
    reply.code(503)
    return { status: 'unavailable' as const }
  })
}

export default probes
