import type { ClaimedEvent } from './store.ts'

/**
 * What the failures of a round of publishing are put down to.
 *
 * - `events`: others pass. An attempt of each has failed.
 * - `unclear`: others pass, or did a moment ago; but these are many, or fail for the first time and all together, as where a
 *   part of the broker is down. They are tried again later, and nothing is counted.
 * - `outage`: nothing passes. They stay where they are, and nothing is counted.
 */
export type Cause = 'events' | 'unclear' | 'outage'

export interface BreakerOptions {
  log: { warn (details: object, message: string): void }
  /** ms until the next probe, after this many in a row have failed. Default: at once, then 1 s, 2 s, 4 s, 5 s. */
  probeMs?: (failed: number) => number
}

/** A line of an outage comes this often, in ms. */
const tellMs = 60_000

/** Where something passed less long ago, in ms, one round in which nothing does is no outage yet. */
const graceMs = 1_000

/** Where so many different events fail, or some and more than a fifth of all, it is not the events' fault. */
const manyFail = 100
const someFail = 10
const someShare = 0.2

/** A failure older than this says nothing any more, in ms; twice the longest backoff. Another instance may have published it. */
const forgetMs = 600_000
const failingMax = 10_000

/**
 * Tells an outage of the broker from an event that it will not have: an event is at fault where others pass.
 * Open, it lets one event at a time through, to find out.
 */
export class Breaker {
  readonly #log: BreakerOptions['log']
  readonly #probeMs: (failed: number) => number
  /** Events that failed and have not passed since, and when; the oldest first. */
  readonly #failing = new Map<string, number>()
  #passedAt = -Infinity
  /** Events that passed in this minute and in the one before it. */
  #passes = { minute: 0, now: 0, before: 0 }
  #outage: { since: number, probes: number, probeAt: number, reason: string, isTold: boolean } | undefined
  #toldAt = -Infinity

  constructor ({ log, probeMs = defaultProbeMs }: BreakerOptions) {
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

  /** ms until one event may go; 0 while it is closed. */
  get waitMs (): number {
    return this.#outage === undefined ? 0 : Math.max(0, this.#outage.probeAt - performance.now())
  }

  /** Something could not be published, whatever the event. */
  open (reason: string): void {
    const now = performance.now()
    const { since, probes, isTold } = this.#outage ?? { since: now, probes: 0, isTold: false }
    this.#outage = { since, probes: probes + 1, probeAt: now + this.#probeMs(probes), reason, isTold }
    // The first probe goes at once: often it was one event, which spoiled the others of its call.
    if (probes === 0) return
    this.#outage.isTold ||= this.#tell({ forS: Math.round((now - since) / 1_000), probes }, 'The publisher takes no events. They wait in the outbox, nothing is counted against them, and one at a time is tried again.', reason)
  }

  /** Takes note of what became of a round. @returns what its failures are put down to */
  judge (passed: ClaimedEvent[], failed: ClaimedEvent[], reason: string): Cause {
    const now = performance.now()
    // Before those of this round are noted: what has failed before while others passed has failed by itself.
    const others = passed.length > 0 || (!this.isOpen && failed.every(event => (this.#failing.get(keyOf(event)) ?? Infinity) < this.#passedAt))
    if (this.#failing.size > 0) for (const event of passed) this.#failing.delete(keyOf(event))
    for (const event of failed) this.#noteFailure(keyOf(event), now)
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
    this.#tell({ failing: size }, 'The publisher takes some events and refuses many. Those wait in the outbox, nothing is counted against them, and they are tried again.', reason)
    return 'unclear'
  }

  #notePasses (count: number, now: number): void {
    const minute = Math.floor(now / 60_000)
    if (minute !== this.#passes.minute) this.#passes = { minute, now: 0, before: minute === this.#passes.minute + 1 ? this.#passes.now : 0 }
    this.#passes.now += count
    this.#passedAt = now
    if (this.#outage === undefined) return
    const { since, isTold } = this.#outage
    this.#outage = undefined
    if (isTold) this.#log.warn({ afterS: Math.round((now - since) / 1_000) }, 'The publisher takes events again.')
  }

  #noteFailure (key: string, now: number): void {
    this.#failing.delete(key)
    this.#failing.set(key, now)
    for (const [oldest, at] of this.#failing) {
      if (this.#failing.size <= failingMax && now - at < forgetMs) break
      this.#failing.delete(oldest)
    }
  }

  #tell (details: object, message: string, reason: string): boolean {
    const now = performance.now()
    if (now - this.#toldAt < tellMs) return false
    this.#toldAt = now
    this.#log.warn({ ...details, reason }, message)
    return true
  }
}

function keyOf ({ orderId, version }: ClaimedEvent): string {
  return `${orderId} ${version}`
}

function defaultProbeMs (failed: number): number {
  return failed === 0 ? 0 : Math.min(1_000 * 2 ** (failed - 1), 5_000)
}
