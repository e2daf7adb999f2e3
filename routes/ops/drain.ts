import { hostname } from 'node:os'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type Static } from 'typebox'
import { accesses, accessOf, requireOperator, type Access } from './access.ts'
import type { FastifyInstance } from 'fastify'
import type { DrainReport } from 'fastify-drain'

const Report = Type.Unsafe<DrainReport>({ type: 'object', additionalProperties: true, description: 'The DrainReport of fastify-drain' })

/** All that the page shows of the process. */
const Live = Type.Object({
  process: Type.Object({
    instance: Type.String(),
    pid: Type.Integer(),
    startedAt: Type.String({ format: 'date-time' }),
    node: Type.String()
  }),
  report: Report,
  readiness: Type.Array(Type.Object({ name: Type.String(), ok: Type.Boolean() })),
  publisher: Type.Object({ ok: Type.Boolean(), reason: Type.Optional(Type.String({ description: 'Why it takes no events. They wait; orders go on' })) }),
  intake: Type.Object({
    queued: Type.Integer({ description: 'Orders that wait for a batch' }),
    batches: Type.Integer({ description: 'Batches under way' })
  }),
  streams: Type.Integer({ description: 'Event streams that are open' }),
  database: Type.Object({ open: Type.Integer(), idle: Type.Integer(), waiting: Type.Integer() }),
  mayDrain: Type.Enum([...accesses], { description: 'Whether who asks may POST /drain' })
})

export interface DrainRoutesOptions {
  service: FastifyInstance
  /** Lets others than this machine stop the process; undefined: nobody else. */
  token: string | undefined
}

/** The stop: watched, started, and its last word. */
const drain: FastifyPluginAsyncTypebox<DrainRoutesOptions> = async (ops, { service, token }) => {
  ops.get('/drain', { schema: { response: { 200: Live } } }, async request => await live(service, accessOf(request, token)))

  ops.post('/drain', {
    onRequest: async request => requireOperator(request, token, 'stop the process', 'Nothing was stopped.'),
    schema: { response: { 202: Live } }
  }, async (request, reply) => {
    request.log.info({ remoteAddress: request.raw.socket.remoteAddress }, 'A stop is asked for through the operators\' port.')
    service.drain.start('ops')
    reply.code(202)
    return await live(service, 'granted')
  })

  // A stop may be over between two polls, and the exit comes one turn of the loop after the report. This waits for both: its
  // answer is written in that turn.
  ops.get('/drain/report', { schema: { response: { 200: Report } } }, async (_request, reply) => {
    await new Promise<void>(resolve => {
      const forget = service.drain.on('draining', () => resolve(), { name: 'tell who waits for the report' })
      reply.raw.once('close', forget)
    })
    // Joins the stop; it starts none.
    return await service.drain.start('ops')
  })
}

export default drain

async function live (service: FastifyInstance, mayDrain: Access): Promise<Static<typeof Live>> {
  const { orders: { intake, feed }, database: { pool } } = service
  return {
    process: { instance: hostname(), pid: process.pid, startedAt: new Date(performance.timeOrigin).toISOString(), node: process.version },
    report: service.drain.report(),
    readiness: await service.health.readiness(),
    publisher: service.orders.publisherHealth(),
    intake: { queued: intake.queued, batches: intake.batches },
    streams: feed.subscribers,
    database: { open: pool.open, idle: pool.idle, waiting: pool.waiting },
    mayDrain
  }
}
