import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { Prisma, type Stop } from '#prisma'
import { lifeOf, readStops, signs, type Signs } from './lives.ts'
import { EarlierLifeSchema, type EarlierLife, type LifeKind } from './shapes.ts'
import type { FastifyInstance } from 'fastify'

type Row = Signs & Pick<Stop, 'id' | 'startedAt' | 'stoppingAt' | 'reason' | 'exitCode' | 'report'>

/** Earlier processes of the service and how they ended: of all instances on this database, newest first. */
const reports: FastifyPluginAsyncTypebox<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/reports', {
    schema: {
      querystring: Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }) }),
      response: { 200: Type.Object({ reports: Type.Array(EarlierLifeSchema) }) }
    }
  }, async request => {
    const rows = await readStops<Row>(service, Prisma.sql`SELECT ${signs}, life.id, life.started_at AS "startedAt", life.stopping_at AS "stoppingAt", life.reason, life.exit_code AS "exitCode", life.report
        FROM stops life ORDER BY life.started_at DESC, life.id DESC LIMIT ${request.query.limit}`)
    return { reports: rows.map((row, index) => onTheWire(row, lifeOf(row, rows.slice(0, index)))) }
  })
}

export default reports

function onTheWire ({ startedAt, stoppingAt, finishedAt, ...rest }: Row, life: LifeKind): EarlierLife {
  return {
    ...rest,
    life,
    startedAt: startedAt.toISOString(),
    stoppingAt: stoppingAt?.toISOString() ?? null,
    finishedAt: finishedAt?.toISOString() ?? null
  }
}
