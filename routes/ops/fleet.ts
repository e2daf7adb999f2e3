import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Prisma, type Stop } from '#prisma'
import { lifeOf, readStops, requireOpen, signs, type Signs } from './lives.ts'
import { remembered } from '../../plugins/remembered.ts'
import { FleetSchema, type Fleet, type FleetLife } from './shapes.ts'
import type { FastifyInstance } from 'fastify'

/** How long an answer is reused, in ms: many people may open the page at once. */
const maxAgeMs = 1_000
const livesMax = 200

type Row = Signs & Omit<FleetLife, 'life' | 'startedAt' | 'seenAt' | 'stoppingAt' | 'finishedAt'> & Pick<Stop, 'startedAt' | 'seenAt' | 'stoppingAt'>

/** All instances on this database, by the heartbeats that they write every few seconds. */
const fleet: FastifyPluginAsyncTypebox<{ readFleet: () => Promise<Fleet> }> = async (ops, { readFleet }) => {
  ops.get('/fleet', { schema: { response: { 200: FleetSchema } } }, async () => await readFleet())
}

export default fleet

/**
 * Reads the fleet once for all requests within `maxAgeMs`.
 *
 * @throws as requireOpen()
 */
export function fleetOf (service: FastifyInstance): () => Promise<Fleet> {
  const read = remembered(maxAgeMs, async () => {
    const rows = await readStops<Row>(service, recentLives)
    return { now: new Date().toISOString(), lives: rows.map((row, index) => onTheWire(row, rows.slice(0, index))) }
  })
  return async () => {
    requireOpen(service)
    return await read()
  }
}

/** An index has the rows that are not counted yet or were counted recently, so the query reads no others. */
const recentLives = Prisma.sql`SELECT ${signs}, life.id, life.version, life.state, life.ops_url AS "opsUrl", life.in_flight AS "inFlight",
         life.started_at AS "startedAt", life.seen_at AS "seenAt", life.stopping_at AS "stoppingAt", life.deadline_ms AS "deadlineMs",
         life.reason, life.exit_code AS "exitCode", life.outcome,
         life.report -> 'phases' AS phases,
         CASE WHEN life.report IS NOT NULL THEN report_number(life.report, 'elapsed')::float8 END AS elapsed,
         CASE WHEN life.report IS NOT NULL THEN jsonb_build_object(
           'completed', report_number(life.report, 'requests', 'completed', 'count'),
           'refused', report_number(life.report, 'requests', 'refused', 'count'),
           'abandoned', jsonb_build_object('count', report_number(life.report, 'requests', 'abandoned', 'count'), 'ids', jsonb_path_query_array(life.report, '$.requests.abandoned.ids[0 to 19]')),
           'cut', jsonb_build_object('count', report_number(life.report, 'requests', 'stalled', 'count'), 'ids', jsonb_path_query_array(life.report, '$.requests.stalled.ids[0 to 19]'))
         ) END AS requests,
         jsonb_path_query_array(coalesce(life.report, '{}'), '$.tracked.abandoned[0 to 19]') AS "abandonedWork"
    FROM stops life
   WHERE (life.counted_at IS NULL OR life.counted_at > now() - interval '1 hour')
     AND greatest(life.started_at, life.seen_at, life.stopping_at, life.finished_at) > now() - interval '1 hour'
   ORDER BY life.started_at DESC, life.id DESC
   LIMIT ${livesMax}`

function onTheWire (row: Row, later: Row[]): FleetLife {
  const { startedAt, seenAt, stoppingAt, finishedAt, ...rest } = row
  return {
    ...rest,
    life: lifeOf(row, later),
    startedAt: startedAt.toISOString(),
    seenAt: seenAt?.toISOString() ?? null,
    stoppingAt: stoppingAt?.toISOString() ?? null,
    finishedAt: finishedAt?.toISOString() ?? null
  }
}
