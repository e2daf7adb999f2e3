/**
 * The cause of the failures in a round of publishing.
 *
 * - `events`: other events pass. An attempt of each failed event is counted.
 * - `unclear`: other events pass, or did a moment ago. But many fail, or all fail together for the first time, as when a part of
 *   the broker is down. The relay retries them later and counts nothing.
 * - `outage`: nothing passes. The events stay where they are, and nothing is counted.
 */
export type Cause = 'events' | 'unclear' | 'outage'

export interface BreakerOptions<E> {
  /** Tells an event from every other one. */
  keyOf: (event: E) => string
  log: { warn (details: object, message: string): void }
  /** ms until the next probe, after this many failed in a row. Default: at once, then 1 s, 2 s, 4 s, 5 s. */
  probeMs?: (failed: number) => number
}

/** The time between two log lines about failures, in ms. */
const logEveryMs = 60_000

/** If an event passed less than this ago, in ms, one round without success is no outage yet. */
const graceMs = 1_000

/** The broker is at fault if `manyFail` different events fail, or `someFail` that are more than this share of all. */
const manyFail = 100
const someFail = 10
const someShare = 0.2

/** A failure counts for this long, in ms: twice the longest backoff. Another instance may have published the event since. */
const forgetMs = 600_000
const failingMax = 10_000

/**
 * Tells an outage of the broker from an event that the broker refuses: an event is at fault if others pass.
 * An open breaker lets one event at a time through, as a probe.
 */
export class Breaker<E> {
  readonly #keyOf: (event: E) => string
  readonly #log: BreakerOptions<E>['log']
  readonly #probeMs: (failed: number) => number
  /** When each event failed that has not passed since; the oldest first. */
  readonly #failing = new Map<string, number>()
  #passedAt = -Infinity
  /** Events that passed in this minute and in the one before it. */
  #passes = { minute: 0, now: 0, before: 0 }
  #outage: { since: number, probes: number, probeAt: number, reason: string, isLogged: boolean } | undefined
  #loggedAt = -Infinity

  constructor ({ keyOf, log, probeMs = defaultProbeMs }: BreakerOptions<E>) {
    this.#keyOf = keyOf
    this.#log = log
    this.#probeMs = probeMs
  }

  get isOpen (): boolean {
    return this.#outage !== undefined
  }

  /** Why it is open. */
  get reason (): string | undefined {
    return this.#outage?.reason
  }

  /** ms until the next probe; 0 while the breaker is closed. */
  get waitMs (): number {
    return this.#outage === undefined ? 0 : Math.max(0, this.#outage.probeAt - performance.now())
  }

  /** Opens for a failure that has nothing to do with an event. */
  open (reason: string): void {
    const now = performance.now()
    const { since, probes, isLogged } = this.#outage ?? { since: now, probes: 0, isLogged: false }
    this.#outage = { since, probes: probes + 1, probeAt: now + this.#probeMs(probes), reason, isLogged }
    // The first probe goes at once: often one event made its whole call fail.
    if (probes === 0) return
    this.#outage.isLogged ||= this.#warn({ forS: Math.round((now - since) / 1_000), probes }, 'The publisher takes no events. They wait in the outbox, and no attempt is counted. The relay retries one event at a time.', reason)
  }

  /** Records the results of a round. @returns the cause of its failures */
  judge (passed: readonly E[], failed: readonly E[], reason: string): Cause {
    const now = performance.now()
    // Before this round is recorded: an event that failed earlier, while others passed, failed by itself.
    const others = passed.length > 0 || (!this.isOpen && failed.every(event => (this.#failing.get(this.#keyOf(event)) ?? Infinity) < this.#passedAt))
    if (this.#failing.size > 0) for (const event of passed) this.#failing.delete(this.#keyOf(event))
    for (const event of failed) this.#noteFailure(this.#keyOf(event), now)
    if (passed.length > 0) this.#notePasses(passed.length, now)
    if (failed.length === 0) return 'events'
    if (!others) {
      if (!this.isOpen && now - this.#passedAt < graceMs) return 'unclear'
      this.open(reason)
      return 'outage'
    }
    const { size } = this.#failing
    const isShareLarge = size > someShare * (size + this.#passes.now + this.#passes.before)
    if (size < someFail || (size < manyFail && !isShareLarge)) return 'events'
    this.#warn({ failing: size }, 'The publisher takes some events and refuses many. Those wait in the outbox, and no attempt is counted. The relay retries them.', reason)
    return 'unclear'
  }

  #notePasses (count: number, now: number): void {
    const minute = Math.floor(now / 60_000)
    if (minute !== this.#passes.minute) this.#passes = { minute, now: 0, before: minute === this.#passes.minute + 1 ? this.#passes.now : 0 }
    this.#passes.now += count
    this.#passedAt = now
    if (this.#outage === undefined) return
    const { since, isLogged } = this.#outage
    this.#outage = undefined
    if (isLogged) this.#log.warn({ afterS: Math.round((now - since) / 1_000) }, 'The publisher takes events again.')
  }

  #noteFailure (key: string, now: number): void {
    this.#failing.delete(key)
    this.#failing.set(key, now)
    for (const [oldest, at] of this.#failing) {
      if (this.#failing.size <= failingMax && now - at < forgetMs) break
      this.#failing.delete(oldest)
    }
  }

  #warn (details: object, message: string, reason: string): boolean {
    const now = performance.now()
    if (now - this.#loggedAt < logEveryMs) return false
    this.#loggedAt = now
    this.#log.warn({ ...details, reason }, message)
    return true
  }
}

function defaultProbeMs (failed: number): number {
  return failed === 0 ? 0 : Math.min(1_000 * 2 ** (failed - 1), 5_000)
}
