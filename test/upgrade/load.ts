import { randomUUID } from 'node:crypto'
import { request } from 'undici'
import type { Version } from './version.ts'

/** One POST, and what its client saw. */
export interface Attempt {
  key: string
  at: Version
  /** The id of the order, or the problem that came instead. */
  saw: { id: string, text: string } | { problem: string }
}

/** Clients that place one order after another. The instances in rotation take turns, as behind a balancer that never retries. */
export class Load {
  readonly attempts: Attempt[] = []
  readonly #rotation: Version[] = []
  readonly #waiting = new Set<() => void>()
  #turn = 0
  #clients: Array<Promise<void>> = []
  #isOver = false

  add (...versions: Version[]): void {
    this.#rotation.push(...versions)
  }

  remove (version: Version): void {
    this.#rotation.splice(this.#rotation.indexOf(version), 1)
  }

  start (clients: number): void {
    this.#clients = Array.from({ length: clients }, async () => {
      while (!this.#isOver) await this.#order()
    })
  }

  async stop (): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#clients)
  }

  /** Resolves when this instance has acknowledged this many more orders. */
  acknowledges (count: number, version: Version): Promise<void> {
    const goal = this.#acknowledgedBy(version) + count
    return new Promise(resolve => {
      const look = (): void => {
        if (this.#acknowledgedBy(version) < goal) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
    })
  }

  /** Sends an order again with the same key as long as the answer says that nothing was stored. */
  async #order (): Promise<void> {
    const key = randomUUID()
    for (;;) {
      const at = this.#rotation[this.#turn++ % this.#rotation.length]
      if (at === undefined) throw new Error('No instance is in rotation.')
      const saw = await place(at, key)
      this.attempts.push({ key, at, saw })
      for (const look of this.#waiting) look()
      if (!('problem' in saw) || saw.problem !== notStarted || this.#isOver) return
    }
  }

  #acknowledgedBy (version: Version): number {
    return this.attempts.filter(({ at, saw }) => at === version && 'id' in saw).length
  }
}

export const notStarted = '503 /problems/not-started'

/** Places an order whose reference is its key, so that the test recognises the stored order. */
export async function place (at: Version, key: string): Promise<Attempt['saw']> {
  try {
    const { statusCode, body } = await request(`${at.url}/orders`, {
      method: 'POST',
      headers: { authorization: `Bearer ${at.token('alice')}`, 'idempotency-key': key, 'content-type': 'application/json' },
      body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }], reference: key })
    })
    const text = await body.text()
    const { id, type } = JSON.parse(text) as { id: string, type: string }
    return statusCode === 201 ? { id, text } : { problem: `${statusCode} ${type}` }
  } catch (error) {
    return { problem: String(error) }
  }
}
