import { setTimeout as delay } from 'node:timers/promises'
import { signedHeaders, type ClaimedDelivery, type Tried, type WebhookStore } from './webhooks.ts'

export interface WebhookSenderOptions {
  store: Pick<WebhookStore, 'claim' | 'settle'>
  /** Sends a POST; resolves with the status of the answer. Rejects if there was none. */
  post: (url: string, headers: Record<string, string>, body: string, signal: AbortSignal) => Promise<number>
  log: { warn (details: object, message: string): void }
  /** How long an endpoint may take to answer, in ms. */
  timeoutMs?: number
  /** The pauses after the first try, the second …, in ms. The delivery fails if the try after the last pause does. */
  pausesMs?: readonly number[]
  /** The most deliveries on their way at once. */
  inFlight?: number
  /** The same for one endpoint. */
  perEndpoint?: number
  /** How long to rest when nothing is due, in ms. A wake() ends the rest. */
  pollMs?: number
  /** Called with the state after each try. */
  onTried?: (state: Tried['state']) => void
}

/** The schedule that the Standard Webhooks specification recommends: ten tries in some three days. */
const standardPausesMs = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400].map(s => s * 1_000)

/** The time that storing a result may take, in ms; the lease covers it too. */
const settleReserveMs = 20_000

/**
 * Makes the deliveries that are due. Any number of instances may run it, because each leases what it sends. It repeats a delivery that
 * a crash or a stop has cut, so each is made at least once.
 */
export class WebhookSender {
  readonly #options: Required<WebhookSenderOptions>
  readonly #stopping = new AbortController()
  /** Deliveries on their way, by endpoint. */
  readonly #underWay = new Map<string, number>()
  readonly #sending = new Set<Promise<void>>()
  #rest = new AbortController()

  constructor (options: WebhookSenderOptions) {
    this.#options = { timeoutMs: 10_000, pausesMs: standardPausesMs, inFlight: 32, perEndpoint: 4, pollMs: 1_000, onTried: () => {}, ...options }
  }

  /** Works until stop(). Resolves when nothing is on its way; never rejects. */
  async run (): Promise<void> {
    const { pollMs, log, inFlight, perEndpoint, store, timeoutMs } = this.#options
    let failures = 0
    while (!this.#stopping.signal.aborted) {
      try {
        // Before the claim, so that a wake() during it counts.
        this.#rest = new AbortController()
        const free = inFlight - this.#sending.size
        const claimed = free > 0 ? await store.claim(free, perEndpoint, this.#underWay, timeoutMs + settleReserveMs) : []
        for (const delivery of claimed) this.#begin(delivery)
        if (claimed.length === 0) await this.#sleep(pollMs)
        failures = 0
      } catch (error) {
        log.warn({ err: error }, 'Webhook deliveries could not be read. They wait, and nothing is lost. The sender tries again.')
        await this.#sleep(Math.min(pollMs * 2 ** failures++, 30_000))
      }
    }
    await Promise.all(this.#sending)
  }

  /** Ends the rest: a delivery may be due. */
  wake (): void {
    this.#rest.abort()
  }

  /** Claims no more, and cuts the deliveries on their way, so that an endpoint that hangs cannot hold up a stop. They are repeated. */
  stop (): void {
    this.#stopping.abort()
  }

  #begin (delivery: ClaimedDelivery): void {
    const { endpointId } = delivery
    this.#underWay.set(endpointId, (this.#underWay.get(endpointId) ?? 0) + 1)
    const sending = this.#send(delivery).finally(() => {
      const left = (this.#underWay.get(endpointId) ?? 1) - 1
      if (left === 0) this.#underWay.delete(endpointId)
      else this.#underWay.set(endpointId, left)
      this.#sending.delete(sending)
      // A slot is free.
      this.wake()
    })
    this.#sending.add(sending)
  }

  /** Never rejects: if the result cannot be stored, the delivery is repeated after its lease. */
  async #send (delivery: ClaimedDelivery): Promise<void> {
    const { store, log, onTried } = this.#options
    const tried = await this.#try(delivery)
    try {
      await store.settle(delivery, tried)
      onTried(tried.state)
    } catch (error) {
      log.warn({ err: error, delivery: delivery.id }, 'The result of a webhook delivery could not be stored. The sender repeats the delivery.')
    }
  }

  async #try ({ id, url, secret, payload, tries }: ClaimedDelivery): Promise<Tried> {
    const { post, timeoutMs, pausesMs } = this.#options
    const body = JSON.stringify(payload)
    const headers = { 'content-type': 'application/json; charset=utf-8', ...signedHeaders(id, secret, body, Date.now()) }
    let status: number | null = null
    let error: string | null = null
    try {
      status = await post(url, headers, body, AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#stopping.signal]))
      if (status >= 200 && status < 300) return { state: 'delivered', status }
    } catch (reason) {
      if (this.#stopping.signal.aborted) return { state: 'pending', status, error: 'A stop of the service cut the delivery', retryMs: 0, isCounted: false }
      error = (reason instanceof Error ? reason.message : String(reason)).slice(0, 200)
    }
    const pauseMs = pausesMs[tries - 1]
    if (pauseMs === undefined) return { state: 'failed', status, error }
    // Up to half as long again, at random, so that many do not come back in step.
    return { state: 'pending', status, error, retryMs: Math.round(pauseMs * (1 + Math.random() / 2)), isCounted: true }
  }

  async #sleep (ms: number): Promise<void> {
    await delay(ms, undefined, { signal: AbortSignal.any([this.#rest.signal, this.#stopping.signal]) }).catch(() => {})
  }
}
