import { setTimeout as delay } from 'node:timers/promises'
import { countStops } from '../prisma/count-stops.ts'
import type { PrismaClient } from '#prisma'

export interface RetentionOptions {
  prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>
  log: { debug (details: object, message: string): void, warn (details: object, message: string): void }
  /** How long the events of an order are kept after its last one, in ms. 0: for ever. */
  outboxMs: number
  /** How long the record of a process is kept after its end, in ms. 0: for ever. */
  stopsMs: number
  /** How long the result of a webhook delivery is kept, in ms. 0, which is the default: for ever. */
  deliveriesMs?: number
  /** The most events that a round examines. */
  batchMax?: number
}

/** How late a row may be deleted, in ms; a tenth of its retention if that is less. */
const pauseMaxMs = 600_000
/** The shortest time between two rounds, in ms. */
const restMinMs = 50
const failedMs = 30_000
/** More than a deploy of hundreds of instances stops at once. */
const stopsMax = 1_000

/**
 * Deletes rows whose retention is over, a few at a time. Any number of instances may run it: they share the rounds. It never deletes
 * what idempotency needs: orders, keys, and changes of stock.
 */
export class Retention {
  readonly #options: Required<RetentionOptions>
  readonly #stopping = new AbortController()

  constructor (options: RetentionOptions) {
    this.#options = { batchMax: 1_000, deliveriesMs: 0, ...options }
  }

  /** Works until stop(). Resolves when no round is under way; never rejects. */
  async run (): Promise<void> {
    const { outboxMs, stopsMs, deliveriesMs } = this.#options
    await Promise.all([
      outboxMs > 0 && this.#repeat(async () => await this.#pruneOutbox()),
      stopsMs > 0 && this.#repeat(async () => await this.#pruneStops()),
      deliveriesMs > 0 && this.#repeat(async () => await this.#pruneDeliveries())
    ])
  }

  /** Starts no further round. */
  stop (): void {
    this.#stopping.abort()
  }

  /** @param round returns when the next one is due, in ms */
  async #repeat (round: () => Promise<number>): Promise<void> {
    let restMs = restMinMs
    while (!this.#stopping.signal.aborted) {
      // Up to half as long again, at random, so that instances do not ask in step.
      await delay(Math.max(restMs, restMinMs) * (1 + Math.random() / 2), undefined, { signal: this.#stopping.signal }).catch(() => {})
      if (this.#stopping.signal.aborted) return
      try {
        restMs = await round()
      } catch (error) {
        restMs = failedMs
        this.#options.log.warn({ err: error, retryInMs: failedMs }, 'Old rows could not be deleted. Nothing else is affected. The service tries again.')
      }
    }
  }

  async #pruneOutbox (): Promise<number> {
    const { prisma, log, outboxMs, batchMax } = this.#options
    const [round] = await prisma.$queryRaw<Array<{ pruned: number, dueInMs: number }>>`
      SELECT pruned, due_in_ms AS "dueInMs" FROM prune_outbox(${outboxMs}::bigint, ${batchMax}::integer, ${pauseMs(outboxMs)}::bigint)`
    const { pruned = 0, dueInMs = pauseMaxMs } = round ?? {}
    if (pruned > 0) log.debug({ pruned }, 'Events of the outbox were deleted, as their retention was over.')
    return dueInMs
  }

  /** Reads by the index of starts. It counts a stop before it deletes it, so that the totals of all stops never fall. */
  async #pruneStops (): Promise<number> {
    const { prisma, log, stopsMs } = this.#options
    await countStops(prisma, { endedForMs: stopsMs, silentForMs: stopsMs, deadlineMs: stopsMs, judges: true })
    const pruned = await prisma.$executeRaw`
      DELETE FROM stops WHERE id IN (
        SELECT id FROM stops
         WHERE started_at < now() - ${stopsMs}::bigint * interval '1 ms'
           AND coalesce(finished_at, greatest(seen_at, stopping_at), started_at) < now() - ${stopsMs}::bigint * interval '1 ms'
           AND (counted_at IS NOT NULL OR coalesce(finished_at, seen_at, stopping_at) IS NULL)
         ORDER BY started_at LIMIT ${stopsMax}
           FOR UPDATE SKIP LOCKED)`
    if (pruned > 0) log.debug({ pruned }, 'Earlier stops were deleted, as their retention was over.')
    return pruned === stopsMax ? restMinMs : pauseMs(stopsMs)
  }

  /** Reads by id, which contains the time. Pending deliveries stay. */
  async #pruneDeliveries (): Promise<number> {
    const { prisma, log, deliveriesMs, batchMax } = this.#options
    const pruned = await prisma.$executeRaw`
      DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
         WHERE id < first_uuid_at(now() - ${deliveriesMs}::bigint * interval '1 ms') AND due_at IS NULL
         ORDER BY id LIMIT ${batchMax}
           FOR UPDATE SKIP LOCKED)`
    if (pruned > 0) log.debug({ pruned }, 'Webhook deliveries were deleted, as their retention was over.')
    return pruned === batchMax ? restMinMs : pauseMs(deliveriesMs)
  }
}

function pauseMs (retentionMs: number): number {
  return Math.ceil(Math.min(retentionMs / 10, pauseMaxMs))
}
