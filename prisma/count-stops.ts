import type { PrismaClient } from '#prisma'

/** A process that has been silent for so long does not live any more, in ms. Six beats: one or two are missed in a failover. */
export const lostMs = 30_000

/** The last figures of a stop come after its end, and a backend of Postgres outlives its process by a moment, in ms. */
const settleMs = 10_000

/** Why stops begin; others count as `other`, so that there are never many. */
export const stopReasons = ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection', 'close', 'ops'] as const

export interface CountOptions {
  /** How old an end must be, in ms, where that is less than usual. */
  endedForMs?: number
  /** How long a process must have been silent, in ms, where that is more than usual. */
  silentForMs?: number
  /** Of a version that does not tell its own, in ms. */
  deadlineMs: number
  /** Whether silence tells: all are silent where it was the database that was away. */
  judges: boolean
}

/** Adds to `stop_totals` the lives that have ended and are not in it yet, each once. */
export async function countStops (prisma: Pick<PrismaClient, '$queryRaw'>, { endedForMs = settleMs, silentForMs = lostMs, deadlineMs, judges }: CountOptions): Promise<void> {
  await prisma.$queryRaw`SELECT count_stops(${Math.min(endedForMs, settleMs)}::bigint, ${Math.max(silentForMs, lostMs)}::bigint, ${deadlineMs}::bigint, ${judges}, ${[...stopReasons]}::text[])`
}
