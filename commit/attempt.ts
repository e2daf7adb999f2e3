import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * One run of a statement, from the call to its outcome. While the statement waits for a connection, nothing has been sent, and
 * giving it up is certain. The pool reports both moments (plugins/database.ts). Without such a pool it counts as sent from the call on.
 */
export class Attempt {
  static readonly #current = new AsyncLocalStorage<Attempt>()
  #isWaiting = false
  #isSent = false
  #isGivenUp = false

  /** The attempt that the caller runs in. */
  static current (): Attempt | undefined {
    return Attempt.#current.getStore()
  }

  run<T> (statement: () => Promise<T>): Promise<T> {
    return Attempt.#current.run(this, statement)
  }

  /** Its statement waits for a connection. A second statement changes nothing: the first one was sent. */
  wait (): void {
    this.#isWaiting = !this.#isSent
  }

  /** The pool has a connection. @returns whether to send the statement */
  send (): boolean {
    this.#isWaiting = false
    this.#isSent = !this.#isGivenUp
    return this.#isSent
  }

  /** @returns whether it is certain that nothing was sent and nothing will be */
  giveUp (): boolean {
    if (this.#isWaiting) this.#isGivenUp = true
    return this.#isWaiting || this.#isGivenUp
  }
}
