import { functionName } from './function-name.ts'
import { setImmediate, setTimeout } from './timers.ts'

/** npm, pnpm and terminals repeat a signal, and mix SIGINT with SIGTERM: within this long of the first it is the same request. */
const BURST_MS = 1_000

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

  /**
   * @param stop at the first
   * @param escalate at one that comes later than the burst of the first
   */
  constructor (stop: (signal: NodeJS.Signals) => void, escalate: (signal: NodeJS.Signals) => void) {
    this.#stop = stop
    this.#escalate = escalate
  }

  listen (signals: readonly NodeJS.Signals[]): void {
    for (const signal of signals) this.#on(signal, () => this.#signalled(signal))
  }

  /**
   * Once a stop is under way: systemd sends SIGHUP right after SIGTERM (`SendSIGHUP=yes`), as a terminal does that closes.
   * Node would end the process; while serving, that is what it does.
   */
  ignoreHangup (): void {
    this.#on('SIGHUP', () => {})
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
  }

  #on (signal: NodeJS.Signals, listener: () => void): void {
    if (this.#listeners.has(signal)) return
    this.#listeners.set(signal, listener)
    process.on(signal, listener)
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
