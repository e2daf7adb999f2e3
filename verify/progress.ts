import type { WriteStream } from 'node:tty'

/** How often a state is written as a line where it cannot be drawn in place, in ms. */
const stateEveryMs = 5_000

type Out = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean, readonly columns?: number }

/** Tells who watches how far it is: what happened as lines that stay, the present state in one line below that is drawn again. */
export class Progress {
  readonly #out: Out
  readonly #startedAt = performance.now()
  #stateAt = 0

  constructor (out: Out) {
    this.#out = out
  }

  /** Something happened. */
  line (text: string): void {
    this.#out.write(`${this.#erase()}${this.#elapsed()}  ${text}\n`)
  }

  /** How it stands. */
  state (text: string): void {
    const line = `${this.#elapsed()}  ${text}`
    if (this.#out.isTTY === true) {
      // A line that wraps could not be erased.
      this.#out.write(this.#erase() + line.slice(0, (this.#out.columns ?? 80) - 1))
    } else if (performance.now() - this.#stateAt >= stateEveryMs) {
      this.#stateAt = performance.now()
      this.#out.write(`${line}\n`)
    }
  }

  /** Text without a time, when all is over. */
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
