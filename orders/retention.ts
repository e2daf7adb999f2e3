import { setTimeout as delay } from 'node:timers/promises'
import { countStops } from '../prisma/count-stops.ts'
import type { PrismaClient } from '#prisma'

export interface RetentionOptions {
  prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>
  log: { debug (details: object, message: string): void, warn (details: object, message: string): void }
  /** How long the events of an order are kept after its last one, in ms. 0: for ever. */
  outboxMs: number
  /** How long a life of a process is kept after its end, in ms. 0: for ever. */
  stopsMs: number
  /** How long what became of a webhook delivery is kept, in ms. 0, which is the default: for ever. */
  deliveriesMs?: number
  /** Events looked at in a round. */
  batchMax?: number
}

/** How much later than it may a row goes, at most, in ms; a tenth of its retention where that is less. */
const pauseMaxMs = 600_000
/** Between two questions whose round it is, where another instance is at it. */
const restMinMs = 50
const failedMs = 30_000
/** A deploy of a hundred instances in one go, and some. */
const stopsMax = 1_000

/**
 * Deletes what has been kept for as long as it was asked to be, a little at a time. Beside any number of other instances: they
 * share the rounds. What idempotency needs is never deleted: no order, no key, no change of a stock.
 */
export class Retention {
  readonly #options: Required<RetentionOptions>
  readonly #stopping = new AbortController()

  constructor (options: RetentionOptions) {
    this.#options = { batchMax: 1_000, deliveriesMs: 0, ...options }
  }

  /** Works until stop(). Resolves when nothing of it is under way; never rejects. */
  async run (): Promise<void> {
    const { outboxMs, stopsMs, deliveriesMs } = this.#options
    await Promise.all([
      outboxMs > 0 && this.#repeat(async () => await this.#pruneOutbox()),
      stopsMs > 0 && this.#repeat(async () => await this.#pruneStops()),
      deliveriesMs > 0 && this.#repeat(async () => await this.#pruneDeliveries())
    ])
  }

  /** Begins no more. */
  stop (): void {
    this.#stopping.abort()
  }

  /** @param round returns when the next one is due, in ms */
  async #repeat (round: () => Promise<number>): Promise<void> {
    let restMs = restMinMs
    while (!this.#stopping.signal.aborted) {
      // By chance up to half as long again, so that instances do not ask in step.
      await delay(Math.max(restMs, restMinMs) * (1 + Math.random() / 2), undefined, { signal: this.#stopping.signal }).catch(() => {})
      if (this.#stopping.signal.aborted) return
      try {
        restMs = await round()
      } catch (error) {
        restMs = failedMs
        this.#options.log.warn({ err: error, retryInMs: failedMs }, 'What was kept long enough could not be deleted. Nothing else is affected; it is tried again.')
      }
    }
  }

  async #pruneOutbox (): Promise<number> {
    const { prisma, log, outboxMs, batchMax } = this.#options
    const [round] = await prisma.$queryRaw<Array<{ pruned: number, dueInMs: number }>>`
      SELECT pruned, due_in_ms AS "dueInMs" FROM prune_outbox(${outboxMs}::bigint, ${batchMax}::integer, ${pauseMs(outboxMs)}::bigint)`
    const { pruned = 0, dueInMs = pauseMaxMs } = round ?? {}
    if (pruned > 0) log.debug({ pruned }, 'Events of the outbox were deleted, as they were kept long enough.')
    return dueInMs
  }

  /** By the index of starts. What goes was counted before: the totals of all stops never fall. */
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
    if (pruned > 0) log.debug({ pruned }, 'Earlier stops were deleted, as they were kept long enough.')
    return pruned === stopsMax ? restMinMs : pauseMs(stopsMs)
  }

  /** By their ids, which are made of their time. What is still to be delivered stays. */
  async #pruneDeliveries (): Promise<number> {
    const { prisma, log, deliveriesMs, batchMax } = this.#options
    const pruned = await prisma.$executeRaw`
      DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries
         WHERE id < first_uuid_at(now() - ${deliveriesMs}::bigint * interval '1 ms') AND due_at IS NULL
         ORDER BY id LIMIT ${batchMax}
           FOR UPDATE SKIP LOCKED)`
    if (pruned > 0) log.debug({ pruned }, 'Webhook deliveries were deleted, as they were kept long enough.')
    return pruned === batchMax ? restMinMs : pauseMs(deliveriesMs)
  }
}

function pauseMs (retentionMs: number): number {
  return Math.ceil(Math.min(retentionMs / 10, pauseMaxMs))
}
