import { hostname } from 'node:os'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type Static } from 'typebox'
import { Problem } from '../../plugins/errors.ts'
import { nullableText } from '../schemas.ts'
import type { Stop } from '#prisma'
import type { FastifyInstance } from 'fastify'

const Time = Type.String({ format: 'date-time' })

const Life = Type.Object({
  id: Type.String({ format: 'uuid' }),
  instance: Type.String(),
  pid: Type.Integer(),
  life: Type.Enum(['finished', 'this', 'gone', 'unknown'], {
    description: 'this: the process that answers. gone: ended without finishing, as after SIGKILL. unknown: not finished; it may run or not'
  }),
  startedAt: Time,
  stoppingAt: Type.Union([Time, Type.Null()]),
  finishedAt: Type.Union([Time, Type.Null()]),
  reason: nullableText(),
  exitCode: Type.Union([Type.Integer(), Type.Null()]),
  report: Type.Unsafe<unknown>({ description: 'As it was written then' })
})

/** Earlier lives of the service and how they ended, newest first, of all instances on this database. */
const reports: FastifyPluginAsyncTypebox<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/reports', {
    schema: {
      querystring: Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }) }),
      response: { 200: Type.Object({ reports: Type.Array(Life) }) }
    }
  }, async request => {
    const { state } = service.drain
    // Prisma opens a new pool for a query after $disconnect, and nobody would close that one.
    if (state === 'closing' || state === 'closed') throw new Problem('not-started', `The service is ${state}, and its database with it: earlier stops can be read from another instance, or after the restart.`, { headers: { 'retry-after': '1' } })

    const reading = service.prisma.stop.findMany({ orderBy: [{ startedAt: 'desc' }, { id: 'desc' }], take: request.query.limit }).then(rows => rows)
    // So the database outlives a read that began in time. That it may fail is no failure of the stop.
    service.drain.track('read of earlier stops', Promise.allSettled([reading]))
    const rows = await reading
    return { reports: rows.map((row, index) => onTheWire(row, lifeOf(row, rows.slice(0, index)))) }
  })
}

export default reports

/** @param later the rows of processes that started after it */
function lifeOf (row: Stop, later: Stop[]): Static<typeof Life>['life'] {
  if (row.finishedAt !== null) return 'finished'
  // Two processes of an instance cannot have one pid at a time. In a container it is always the same one.
  if (later.some(({ instance, pid }) => instance === row.instance && pid === row.pid)) return 'gone'
  if (row.instance !== hostname()) return 'unknown'
  if (row.pid === process.pid) return 'this'
  return isRunning(row.pid) ? 'unknown' : 'gone'
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // EPERM: there is one, of another user.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}

function onTheWire (row: Stop, life: Static<typeof Life>['life']): Static<typeof Life> {
  const { startedAt, stoppingAt, finishedAt, ...rest } = row
  return {
    ...rest,
    life,
    startedAt: startedAt.toISOString(),
    stoppingAt: stoppingAt?.toISOString() ?? null,
    finishedAt: finishedAt?.toISOString() ?? null
  }
}
