import { setTimeout as delay } from 'node:timers/promises'
import type { PrismaClient } from '#prisma'

export interface ExpiryOptions {
  prisma: Pick<PrismaClient, '$queryRaw'>
  log: { info (details: object, message: string): void, warn (details: object, message: string): void }
  /** How long an order may stay unpaid, in ms. 0: for ever. */
  unpaidMs: number
  /** Called with the number of orders that a round has cancelled. */
  onExpired?: (count: number) => void
  /** Orders cancelled in a round, and so in one commit. */
  batchMax?: number
}

/** How late an order may expire, in ms; a tenth of its time if that is less. */
const pauseMaxMs = 60_000
/** Between two rounds while there is more to cancel. */
const restMinMs = 50
const failedMs = 30_000

/**
 * Cancels orders that nobody pays, and gives their stock back, a few at a time. Any number of instances may run it: each skips
 * the rows that another has locked. A round is one commit, so after a stop or a crash an order is either as it was or cancelled.
 */
export class Expiry {
  readonly #options: Required<ExpiryOptions>
  readonly #stopping = new AbortController()

  constructor (options: ExpiryOptions) {
    this.#options = { onExpired: () => {}, batchMax: 100, ...options }
  }

  /** Works until stop(). Resolves when no round is under way; never rejects. */
  async run (): Promise<void> {
    const { unpaidMs, log } = this.#options
    if (unpaidMs === 0) return
    let restMs = restMinMs
    for (;;) {
      // Up to half as long again, at random, so that instances do not ask in step.
      await delay(restMs * (1 + Math.random() / 2), undefined, { signal: this.#stopping.signal }).catch(() => {})
      if (this.#stopping.signal.aborted) return
      try {
        restMs = await this.#round()
      } catch (error) {
        restMs = failedMs
        log.warn({ err: error, retryInMs: failedMs }, 'Unpaid orders could not be cancelled. They keep their stock; nothing else is affected. The service tries again.')
      }
    }
  }

  /** Starts no further round. */
  stop (): void {
    this.#stopping.abort()
  }

  /** @returns when the next one is due, in ms */
  async #round (): Promise<number> {
    const { prisma, log, unpaidMs, batchMax, onExpired } = this.#options
    const [round] = await prisma.$queryRaw<Array<{ due: number, expired: number }>>`
      SELECT due, expired FROM expire_orders(${unpaidMs}::bigint, ${batchMax}::integer)`
    const { due = 0, expired = 0 } = round ?? {}
    if (expired > 0) {
      log.info({ expired }, 'Orders were cancelled, as they were not paid in time. Their stock was given back.')
      onExpired(expired)
    }
    return due === batchMax ? restMinMs : Math.max(restMinMs, Math.min(unpaidMs / 10, pauseMaxMs))
  }
}
