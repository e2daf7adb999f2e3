import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { Problem } from '../../plugins/errors.ts'
import type { FastifyInstance } from 'fastify'
import type { HealthCheck } from '../../plugins/health.ts'

const Query = Type.Object({
  verbose: Type.Optional(Type.Unknown()),
  exclude: Type.Optional(Type.Array(Type.String()))
})
/** An informative check is shown, but does not count. */
type Shown = HealthCheck & { isInformative?: true }

const Params = Type.Object({ check: Type.String() })

/** Health, check by check, in the format of kube-apiserver's endpoints: https://kubernetes.io/docs/reference/using-api/health-checks/ */
const probes: FastifyPluginAsyncTypebox<{ service: FastifyInstance }> = async (ops, { service }) => {
  const endpoints = {
    // Only the process: a liveness probe that asks the database turns an outage into a storm of restarts.
    livez: async (): Promise<Shown[]> => [{ name: 'ping', ok: true }],
    startupz: async (): Promise<Shown[]> => [{ name: 'started', ok: service.drain.state !== 'starting' }],
    // Without its publisher the service still takes orders: their events wait.
    readyz: async (): Promise<Shown[]> => [...await service.health.readiness(), { name: 'publisher', ...service.orders.publisherHealth(), isInformative: true }]
  }

  for (const [endpoint, checksOf] of Object.entries(endpoints)) {
    ops.get(`/${endpoint}`, { schema: { querystring: Query } }, async (request, reply) => {
      const { verbose, exclude = [] } = request.query
      const checks = await checksOf()
      const passed = checks.every(check => check.ok || check.isInformative || exclude.includes(check.name))
      reply.code(passed ? 200 : 503).type('text/plain; charset=utf-8')
      return passed && verbose === undefined ? 'ok' : listOf(endpoint, checks, exclude, passed)
    })

    ops.get(`/${endpoint}/:check`, { schema: { params: Params } }, async (request, reply) => {
      const checks = await checksOf()
      const check = checks.find(({ name }) => name === request.params.check)
      if (check === undefined) throw new Problem('not-found', `/${endpoint} has no such check. It has ${checks.map(({ name }) => name).join(', ')}.`)
      reply.code(check.ok ? 200 : 503).type('text/plain; charset=utf-8')
      return check.ok ? 'ok' : `${failed(check)}\n`
    })
  }
}

export default probes

function listOf (endpoint: string, checks: Shown[], exclude: string[], passed: boolean): string {
  const unmatched = exclude.filter(excluded => checks.every(({ name }) => name !== excluded))
  return [
    ...checks.map(check => exclude.includes(check.name) ? `[+]${check.name} excluded: ok` : check.ok ? `[+]${check.name} ok` : failed(check) + (check.isInformative ? ' (not counted)' : '')),
    ...unmatched.length > 0 ? [`warn: some health checks cannot be excluded: no matches for ${unmatched.map(name => JSON.stringify(name)).join(', ')}`] : [],
    `${endpoint} check ${passed ? 'passed' : 'failed'}`,
    ''
  ].join('\n')
}

function failed ({ name, reason }: HealthCheck): string {
  return `[-]${name} failed${reason === undefined ? '' : `: ${reason.replaceAll(/\s+/g, ' ')}`}`
}
