import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { accessOf, requireOperator, type Access, type Operators } from './access.ts'
import { LiveSchema, type Live } from './shapes.ts'
import type { FastifyInstance } from 'fastify'
import type { DrainReport } from 'fastify-drain'

const Report = Type.Unsafe<DrainReport>({ type: 'object', additionalProperties: true, description: 'The DrainReport of fastify-drain' })

export interface DrainRoutesOptions {
  service: FastifyInstance
  /** Who may stop the process. */
  operators: Operators
}

/** Shows the stop, starts it, and gives its report. */
const drain: FastifyPluginAsyncTypebox<DrainRoutesOptions> = async (ops, { service, operators }) => {
  ops.get('/drain', { schema: { response: { 200: LiveSchema } } }, async request => await live(service, accessOf(request, operators)))

  ops.post('/drain', {
    onRequest: async request => requireOperator(request, operators, 'stop the process', 'Nothing was stopped.'),
    schema: { response: { 202: LiveSchema } }
  }, async (request, reply) => {
    request.log.info({ remoteAddress: request.raw.socket.remoteAddress }, 'An operator asked for a stop through the ops port.')
    service.drain.start('ops')
    reply.code(202)
    return await live(service, 'granted')
  })

  // A stop may be over between two polls, and the exit comes one turn of the event loop after the report. So this request waits for
  // the report, and its answer goes out in that turn.
  ops.get('/drain/report', { schema: { response: { 200: Report } } }, async (_request, reply) => {
    await new Promise<void>(resolve => {
      const forget = service.drain.on('draining', () => resolve(), { name: 'tell who waits for the report' })
      reply.raw.once('close', forget)
    })
    // Joins the stop that has begun.
    return await service.drain.start('ops')
  })
}

export default drain

async function live (service: FastifyInstance, mayDrain: Access): Promise<Live> {
  const { orders: { intake, feed }, database: { pool }, traffic } = service
  const { requests, errors, seconds } = traffic.lastMinute()
  const arrivals = traffic.arrivals()
  return {
    process: {
      instance: hostname(),
      pid: process.pid,
      version: service.stops.version,
      startedAt: new Date(performance.timeOrigin).toISOString(),
      node: process.version,
      logs: logsCommand(process.env)
    },
    report: service.drain.report(),
    readiness: await service.health.readiness(),
    publisher: service.orders.publisherHealth(),
    intake: { queued: intake.queued, batches: intake.batches },
    streams: feed.subscribers,
    database: { open: pool.open, idle: pool.idle, waiting: pool.waiting },
    lastMinute: { requestsPerSecond: requests / seconds, errorShare: requests === 0 ? 0 : errors / requests },
    // Senders may be customers.
    stop: { lameDuck: traffic.lameDuck, waiting: traffic.waiting(), arrivals: { ...arrivals, senders: mayDrain === 'granted' ? arrivals.senders : [] } },
    mayDrain
  }
}

/** The command that prints the log of an instance. It depends on what runs the instance. */
export function logsCommand (environment: NodeJS.ProcessEnv): string {
  if (environment.KUBERNETES_SERVICE_HOST !== undefined) return 'kubectl logs {instance}'
  // systemd sets it, and its journal keeps what services print.
  if (environment.JOURNAL_STREAM !== undefined) return 'journalctl _PID={pid}'
  // In Docker the host name of a container is its id.
  if (existsSync('/.dockerenv')) return 'docker logs {instance} 2>&1'
  return 'cat service.log'
}
