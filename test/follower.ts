import { setTimeout as delay } from 'node:timers/promises'
import { request } from 'undici'

export interface Told {
  id: string
  /** `gap`, or the state that the order reached. */
  event: string
  data: { orderId: string, version: number, type: string, reason: string, detail: string }
}

/** A client that follows a customer's stream as an EventSource does: it reconnects with Last-Event-ID. */
export class Follower {
  readonly told: Told[] = []
  readonly #url: string
  readonly #token: string
  /** It reconnects by itself after this many messages. */
  readonly #leavesAfter: number
  readonly #left = new AbortController()
  readonly #ended: Promise<void>
  #connected = Promise.withResolvers<void>()
  /** The answers of the service that were no streams. */
  refused: string[] = []

  constructor (
    t: { teardown (end: () => Promise<void>): unknown },
    url: string,
    token: string,
    { leavesAfter = Infinity, lastEventId }: { leavesAfter?: number, lastEventId?: string | undefined } = {}
  ) {
    this.#url = url
    this.#token = token
    this.#leavesAfter = leavesAfter
    this.#ended = this.#follow(lastEventId)
    t.teardown(() => this.leave())
  }

  /** Resolves when its first stream has begun. */
  async connected (): Promise<this> {
    await this.#connected.promise
    return this
  }

  async leave (): Promise<void> {
    this.#left.abort()
    await this.#ended
  }

  /** Resolves when the client has been told enough. */
  async has (isEnough: (told: Told[]) => boolean): Promise<void> {
    const giveUpAt = performance.now() + 30_000
    while (!isEnough(this.told)) {
      if (performance.now() > giveUpAt) throw new Error(`The client was not told enough within 30 s. It was told ${JSON.stringify(this.told.map(({ id, event }) => [id, event]))}`)
      await delay(20)
    }
  }

  async #follow (lastEventId: string | undefined): Promise<void> {
    for (let last = lastEventId; !this.#left.signal.aborted;) {
      try {
        for await (const message of this.#stream(last)) {
          this.told.push(message)
          last = message.id
        }
      } catch {
        // The connection was cut or refused: it reconnects.
      }
      if (!this.#left.signal.aborted) await delay(10)
    }
  }

  async * #stream (lastEventId: string | undefined): AsyncGenerator<Told> {
    const { statusCode, body } = await request(`${this.#url}/orders/stream`, {
      signal: this.#left.signal,
      headers: { authorization: `Bearer ${this.#token}`, ...lastEventId !== undefined && { 'last-event-id': lastEventId } }
    })
    if (statusCode !== 200) {
      this.refused.push(`${statusCode} ${await body.text()}`)
      return
    }
    let text = ''
    let count = 0
    for await (const chunk of body.setEncoding('utf8')) {
      this.#connected.resolve()
      text += chunk
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const fields = Object.fromEntries(text.slice(0, end).split('\n').map(line => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? []))
        text = text.slice(end + 2)
        if (fields.data === undefined) continue
        yield { ...fields, data: JSON.parse(fields.data) } as Told
        if (++count >= this.#leavesAfter) return
      }
    }
  }
}
