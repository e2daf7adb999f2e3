import { setTimeout as sleep } from 'node:timers/promises'

/** Like the pool of a database: a query takes a while, and fails once the pool is closed. */
export class Pool {
  #open = true

  /** @param {() => Error} [closed] */
  async query (closed = () => new Error('the pool is closed')) {
    await sleep(200)
    if (!this.#open) throw closed()
    return { rows: 1 }
  }

  async end () {
    this.#open = false
  }
}
