import { hostname } from 'node:os'
import { Prisma } from '#prisma'
import { Problem } from '../../plugins/errors.ts'
import { lostMs } from '../../prisma/count-stops.ts'
import type { FastifyInstance } from 'fastify'
import type { LifeKind } from './shapes.ts'

/** What tells whether a process lives, from a row of `stops` with the alias `life`. */
export interface Signs {
  instance: string
  pid: number
  finishedAt: Date | null
  /** null: its version writes no heartbeat. */
  heartbeatAgeMs: number | null
  /** Counted as killed; or silent for too long, and past the deadline of its stop if that had begun. */
  isLost: boolean
}

export const signs = Prisma.sql`life.instance, life.pid, life.finished_at AS "finishedAt",
  (extract(epoch FROM now() - life.seen_at) * 1000)::float8 AS "heartbeatAgeMs",
  life.counted_at IS NOT NULL OR coalesce(life.seen_at < now() - ${lostMs} * interval '1 ms' AND coalesce(life.stopping_at < now() - life.deadline_ms * interval '1 ms', true), false) AS "isLost"`

/** @param later the rows of processes that started after it */
export function lifeOf (row: Signs, later: Signs[]): LifeKind {
  if (row.finishedAt !== null) return 'finished'
  // Two processes of an instance cannot have one pid at a time. In a container every process has the same pid.
  if (later.some(({ instance, pid }) => instance === row.instance && pid === row.pid)) return 'gone'
  if (row.instance === hostname()) {
    if (row.pid === process.pid) return 'this'
    // Earlier than its silence shows it. A running process with this pid proves nothing: it may be another one.
    if (!isRunning(row.pid)) return 'gone'
  }
  if (row.isLost) return 'gone'
  return row.heartbeatAgeMs !== null && row.heartbeatAgeMs < lostMs ? 'living' : 'unknown'
}

/**
 * @throws Problem 'not-started' once the database closes in a stop: Prisma opens a new pool for a query after $disconnect, and
 * nothing would close it
 */
export function requireOpen ({ drain: { state } }: FastifyInstance): void {
  if (state === 'closing' || state === 'closed') throw new Problem('not-started', `The service is ${state}, and so is its database. Nothing was read. Ask another instance, or ask after the restart.`, { headers: { 'retry-after': '1' } })
}

/**
 * Reads the table of stops for an operator.
 *
 * @throws as requireOpen()
 */
export async function readStops<Row> (service: FastifyInstance, query: Prisma.Sql): Promise<Row[]> {
  requireOpen(service)
  const reading = service.prisma.$queryRaw<Row[]>(query).then(rows => rows)
  // Keeps the database open for a read that began in time. If the read fails, the stop does not.
  service.drain.track('read of earlier stops', Promise.allSettled([reading]))
  return await reading
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // EPERM: a process of another user has the pid.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
