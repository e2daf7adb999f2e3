import { functionName } from './function-name.ts'
import { setImmediate, setTimeout } from './timers.ts'

/** npm, pnpm and terminals repeat a signal, and mix SIGINT with SIGTERM: within this long of the first it is the same request. */
const BURST_MS = 1_000
/** SIGHUP may be delivered before the SIGTERM that was sent with it, so it has no effect before this. */
const HANGUP_MS = 50

/** Somebody else's listener of a signal that stops this process. */
export interface OtherListener {
  readonly signal: NodeJS.Signals
  /** Its name, or how it begins. */
  readonly name: string
  readonly remove: () => void
}

/** The signals that stop this process, and when one of them is a second request. */
export class Signals {
  readonly #stop: (signal: NodeJS.Signals) => void
  readonly #escalate: (signal: NodeJS.Signals) => void
  readonly #listeners = new Map<NodeJS.Signals, () => void>()
  #burst: 'none' | 'under way' | 'over' = 'none'
  #ignoresHangup = false
  #closed = false

  /**
   * @param stop at the first
   * @param escalate at one that comes later than the burst of the first
   */
  constructor (stop: (signal: NodeJS.Signals) => void, escalate: (signal: NodeJS.Signals) => void) {
    this.#stop = stop
    this.#escalate = escalate
  }

  listen (signals: readonly NodeJS.Signals[]): void {
    for (const signal of signals) {
      if (this.#listeners.has(signal)) continue
      const listener = (): void => this.#signalled(signal)
      this.#listeners.set(signal, listener)
      process.on(signal, listener)
    }
    process.off('SIGHUP', this.#hungUp)
    // First, as a listener of `once()` is not counted any more when it has run.
    if (!this.#listeners.has('SIGHUP')) process.prependListener('SIGHUP', this.#hungUp)
  }

  /** Once a stop is under way. */
  ignoreHangup (): void {
    this.#ignoresHangup = true
  }

  /** Who else listens to them: each may end the process, or close the app, in the middle of a stop. */
  others (): OtherListener[] {
    return [...this.#listeners].flatMap(([signal, ours]) => {
      return process.rawListeners(signal).filter((listener) => listener !== ours).map((listener) => ({
        signal,
        name: nameOf(listener),
        remove: () => { process.off(signal, listener as () => void) }
      }))
    })
  }

  close (): void {
    for (const [signal, listener] of this.#listeners) process.off(signal, listener)
    this.#listeners.clear()
    this.#closed = true
    process.off('SIGHUP', this.#hungUp)
  }

  /**
   * systemd sends SIGHUP together with SIGTERM (`SendSIGHUP=yes`), as a terminal may that closes: the stop must survive it.
   * Without a stop it ends the process, as it does without this listener, unless somebody else listens.
   */
  readonly #hungUp = (): void => {
    if (this.#ignoresHangup) return
    // signal-exit and its like raise the signal again where nobody but they listen: to this one they must be alone.
    process.off('SIGHUP', this.#hungUp)
    if (process.listenerCount('SIGHUP') > 0) {
      setImmediate(() => { if (!this.#closed) process.prependListener('SIGHUP', this.#hungUp) })
      return
    }
    process.prependListener('SIGHUP', this.#hungUp)
    setTimeout(() => {
      if (this.#ignoresHangup) return
      process.off('SIGHUP', this.#hungUp)
      process.kill(process.pid, 'SIGHUP')
    }, HANGUP_MS)
  }

  #signalled (signal: NodeJS.Signals): void {
    if (this.#burst === 'over') return this.#escalate(signal)
    if (this.#burst === 'under way') return
    this.#burst = 'under way'
    // After a blocked loop the timer fires before signals that have come long ago are read; setImmediate comes after those.
    setTimeout(() => setImmediate(() => { this.#burst = 'over' }), BURST_MS).unref()
    this.#stop(signal)
  }
}

function nameOf (listener: unknown): string {
  // That of `once()` is wrapped.
  const { listener: wrapped } = listener as { listener?: { readonly name: string } }
  return functionName(wrapped ?? listener as { readonly name: string })
}
