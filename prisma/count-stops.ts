import type { PrismaClient } from '#prisma'

/** A process that is silent for so long counts as dead, in ms. Six beats: a failover costs one or two. */
export const lostMs = 30_000

/** How old an end must be, in ms: a stop writes its last figures after its end, and its backends live a moment longer. */
const settleMs = 10_000

/** Why stops begin. Other reasons count as `other`, which bounds their number. */
export const stopReasons = ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection', 'close', 'ops'] as const

export interface CountOptions {
  /** How old an end must be, in ms. Can only shorten the default. */
  endedForMs?: number
  /** How long a process must have been silent, in ms. Can only lengthen the default. */
  silentForMs?: number
  /** The deadline of rows that have none, from an earlier version, in ms. */
  deadlineMs: number
  /** Whether silence counts: after an outage of the database all processes look silent. */
  judges: boolean
}

/** Adds each ended process to `stop_totals` once. */
export async function countStops (prisma: Pick<PrismaClient, '$queryRaw'>, { endedForMs = settleMs, silentForMs = lostMs, deadlineMs, judges }: CountOptions): Promise<void> {
  await prisma.$queryRaw`SELECT count_stops(${Math.min(endedForMs, settleMs)}::bigint, ${Math.max(silentForMs, lostMs)}::bigint, ${deadlineMs}::bigint, ${judges}, ${[...stopReasons]}::text[])`
}
