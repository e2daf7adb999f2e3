import type { WriteStream } from 'node:tty'

/** ms between two lines of progress if it cannot be drawn in place. */
const stateEveryMs = 5_000

type Out = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean, readonly columns?: number }

/** Shows progress: events as lines that stay, and the current state in one line below that is redrawn. */
export class Progress {
  readonly #out: Out
  readonly #startedAt = performance.now()
  #stateAt = 0

  constructor (out: Out) {
    this.#out = out
  }

  /** Prints a line for an event. */
  line (text: string): void {
    this.#out.write(`${this.#erase()}${this.#elapsed()}  ${text}\n`)
  }

  /** Shows the current state. */
  state (text: string): void {
    const line = `${this.#elapsed()}  ${text}`
    if (this.#out.isTTY === true) {
      // A line that wraps cannot be erased.
      this.#out.write(this.#erase() + line.slice(0, (this.#out.columns ?? 80) - 1))
    } else if (performance.now() - this.#stateAt >= stateEveryMs) {
      this.#stateAt = performance.now()
      this.#out.write(`${line}\n`)
    }
  }

  /** Prints text without a time, at the end. */
  end (text: string): void {
    this.#out.write(`${this.#erase()}${text}\n`)
  }

  #erase (): string {
    return this.#out.isTTY === true ? '\r\x1b[K' : ''
  }

  #elapsed (): string {
    return `${((performance.now() - this.#startedAt) / 1_000).toFixed(1).padStart(6)} s`
  }
}
