import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * One run of a statement, from the call to its outcome. While it waits for a connection nothing has been sent, and it can still be given
 * up for certain. The pool tells (plugins/database.ts); where none does, it counts as sent from the call on.
 */
export class Attempt {
  static readonly #current = new AsyncLocalStorage<Attempt>()
  #isWaiting = false
  #isSent = false
  #isGivenUp = false

  /** The one that the caller runs in. */
  static current (): Attempt | undefined {
    return Attempt.#current.getStore()
  }

  run<T> (statement: () => Promise<T>): Promise<T> {
    return Attempt.#current.run(this, statement)
  }

  /** Its statement waits for a connection; of a second one the first was sent. */
  wait (): void {
    this.#isWaiting = !this.#isSent
  }

  /** There is a connection. @returns whether the statement is to be sent */
  send (): boolean {
    this.#isWaiting = false
    this.#isSent = !this.#isGivenUp
    return this.#isSent
  }

  /** @returns whether that is certain: nothing was sent, and nothing will be */
  giveUp (): boolean {
    if (this.#isWaiting) this.#isGivenUp = true
    return this.#isWaiting || this.#isGivenUp
  }
}
