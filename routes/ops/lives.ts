import { hostname } from 'node:os'
import { Prisma } from '#prisma'
import { Problem } from '../../plugins/errors.ts'
import { lostMs } from '../../prisma/count-stops.ts'
import type { FastifyInstance } from 'fastify'
import type { LifeKind } from './shapes.ts'

/** What tells whether a process lives; of a row of `stops` with the name `life`. */
export interface Signs {
  instance: string
  pid: number
  finishedAt: Date | null
  /** null: it runs a version that does not tell. */
  heartbeatAgeMs: number | null
  /** Counted as killed; or silent for long, and past the deadline of its stop where that had begun. */
  isLost: boolean
}

export const signs = Prisma.sql`life.instance, life.pid, life.finished_at AS "finishedAt",
  (extract(epoch FROM now() - life.seen_at) * 1000)::float8 AS "heartbeatAgeMs",
  life.counted_at IS NOT NULL OR coalesce(life.seen_at < now() - ${lostMs} * interval '1 ms' AND coalesce(life.stopping_at < now() - life.deadline_ms * interval '1 ms', true), false) AS "isLost"`

/** @param later the rows of processes that started after it */
export function lifeOf (row: Signs, later: Signs[]): LifeKind {
  if (row.finishedAt !== null) return 'finished'
  // Two processes of an instance cannot have one pid at a time. In a container it is always the same one.
  if (later.some(({ instance, pid }) => instance === row.instance && pid === row.pid)) return 'gone'
  if (row.instance === hostname()) {
    if (row.pid === process.pid) return 'this'
    // Before its silence tells. That there is a process with its pid says nothing: it may be another one.
    if (!isRunning(row.pid)) return 'gone'
  }
  if (row.isLost) return 'gone'
  return row.heartbeatAgeMs !== null && row.heartbeatAgeMs < lostMs ? 'living' : 'unknown'
}

/**
 * @throws Problem 'not-started' once the database closes with the service: Prisma opens a new pool for a query after
 * $disconnect, and nobody would close that one
 */
export function requireOpen ({ drain: { state } }: FastifyInstance): void {
  if (state === 'closing' || state === 'closed') throw new Problem('not-started', `The service is ${state}, and its database with it: earlier stops can be read from another instance, or after the restart.`, { headers: { 'retry-after': '1' } })
}

/**
 * Reads the table of stops for an operator.
 *
 * @throws as requireOpen()
 */
export async function readStops<Row> (service: FastifyInstance, query: Prisma.Sql): Promise<Row[]> {
  requireOpen(service)
  const reading = service.prisma.$queryRaw<Row[]>(query).then(rows => rows)
  // So the database outlives a read that began in time. That it may fail is no failure of the stop.
  service.drain.track('read of earlier stops', Promise.allSettled([reading]))
  return await reading
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // EPERM: there is one, of another user.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
