import { setTimeout as delay } from 'node:timers/promises'
import type { Cashier } from './cashier.ts'
import type { PaymentStore } from './payment-store.ts'

export interface SettlerOptions {
  store: Pick<PaymentStore, 'claim' | 'claimRefunds'>
  cashier: Pick<Cashier, 'settleDue' | 'settleDueRefund'>
  log: { warn (details: object, message: string): void }
  /** How long no other instance can claim the same payments, in ms: longer than a call lasts. */
  leaseMs: number
  /** The most payments, and the most refunds, settled at once. */
  batchMax?: number
  /** How long to rest when nothing is due, in ms. A wake() ends the rest. */
  pollMs?: number
}

/**
 * Settles open payments and refunds with the gateway: those left by a lost answer, a crash or a stop, refunds of cancelled orders,
 * and pending ones. Any number of instances may run it, because each leases what it settles.
 */
export class PaymentSettler {
  readonly #options: Required<SettlerOptions>
  readonly #stopping = new AbortController()
  #rest = new AbortController()

  constructor (options: SettlerOptions) {
    this.#options = { batchMax: 16, pollMs: 1_000, ...options }
  }

  /** Works until stop(). Resolves when no round is under way; never rejects. */
  async run (): Promise<void> {
    const { pollMs, log } = this.#options
    let failures = 0
    while (!this.#stopping.signal.aborted) {
      try {
        // Before the round, so that a wake() during it counts.
        this.#rest = new AbortController()
        if (await this.#round() === 0) await this.#sleep(pollMs)
        failures = 0
      } catch (error) {
        log.warn({ err: error }, 'Payments could not be read or written. They wait, and nothing is lost. The settler tries again.')
        await this.#sleep(Math.min(pollMs * 2 ** failures++, 30_000))
      }
    }
  }

  /** Ends the rest: a payment may be due. */
  wake (): void {
    this.#rest.abort()
  }

  /** Claims no more. */
  stop (): void {
    this.#stopping.abort()
  }

  /** @returns how many were due */
  async #round (): Promise<number> {
    const { store, cashier, leaseMs, batchMax } = this.#options
    const settleAll = async <Due>(claim: Promise<Due[]>, settle: (due: Due) => Promise<void>): Promise<number> => {
      const taken = await claim
      // Throws only after all have ended, so that none is abandoned.
      const failed = (await Promise.allSettled(taken.map(settle))).find(settled => settled.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      return taken.length
    }
    const [payments, refunds] = await Promise.allSettled([
      settleAll(store.claim(batchMax, leaseMs), async due => { await cashier.settleDue(due) }),
      settleAll(store.claimRefunds(batchMax, leaseMs), async due => { await cashier.settleDueRefund(due) })
    ])
    if (payments.status === 'rejected') throw payments.reason
    if (refunds.status === 'rejected') throw refunds.reason
    return payments.value + refunds.value
  }

  async #sleep (ms: number): Promise<void> {
    await delay(ms, undefined, { signal: AbortSignal.any([this.#rest.signal, this.#stopping.signal]) }).catch(() => {})
  }
}
