import { functionName } from './function-name.ts'
import { setImmediate, setTimeout } from './timers.ts'

/** npm, pnpm and terminals repeat a signal, and mix SIGINT with SIGTERM. Within this time after the first, all are one request to stop. */
const burstMs = 1_000
/** SIGHUP may be delivered before the SIGTERM that was sent with it, so it takes effect only after this time. */
const hangupMs = 50

/** A listener of other code for a signal that stops this process. */
export interface OtherListener {
  readonly signal: NodeJS.Signals
  /** Its name, or the beginning of its source. */
  readonly name: string
  readonly remove: () => void
}

/** Listens to the signals that stop this process, and decides which of them is a second request. */
export class Signals {
  readonly #stop: (signal: NodeJS.Signals) => void
  readonly #escalate: (signal: NodeJS.Signals) => void
  readonly #listeners = new Map<NodeJS.Signals, () => void>()
  #burst: 'none' | 'under way' | 'over' = 'none'
  #ignoresHangup = false
  #closed = false

  /**
   * @param stop called at the first signal
   * @param escalate called at a signal that comes after the burst of the first
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
    // Added first: a `once()` listener that has run is no longer counted.
    if (!this.#listeners.has('SIGHUP')) process.prependListener('SIGHUP', this.#hungUp)
  }

  /** Called once a stop is under way. */
  ignoreHangup (): void {
    this.#ignoresHangup = true
  }

  /** Other listeners of these signals: each may end the process or close the app during a stop. */
  others (): OtherListener[] {
    return [...this.#listeners].flatMap(([signal, ours]) => {
      return process.rawListeners(signal).filter(listener => listener !== ours).map(listener => ({
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
   * systemd sends SIGHUP together with SIGTERM (`SendSIGHUP=yes`), and so may a closing terminal: the stop must survive it.
   * Without a stop it ends the process, as it does without this listener, unless other code listens to it.
   */
  readonly #hungUp = (): void => {
    if (this.#ignoresHangup) return
    // signal-exit and similar packages raise the signal again if they are its only listeners, so this listener leaves first.
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
    }, hangupMs)
  }

  #signalled (signal: NodeJS.Signals): void {
    if (this.#burst === 'over') return this.#escalate(signal)
    if (this.#burst === 'under way') return
    this.#burst = 'under way'
    // After a blocked loop, the timer fires before the waiting signals are read; setImmediate runs after them.
    setTimeout(() => setImmediate(() => { this.#burst = 'over' }), burstMs).unref()
    this.#stop(signal)
  }
}

function nameOf (listener: unknown): string {
  // `once()` wraps its listener.
  const { listener: wrapped } = listener as { listener?: { readonly name: string } }
  return functionName(wrapped ?? listener as { readonly name: string })
}
