import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'undici'
import type { HistoryFile } from '../history-file.ts'
import { now } from '../history.ts'
import type { Target } from '../target.ts'

/** ms from the end of a stream to the next try. */
const reopenAfter = 500

export interface EventStreamOptions {
  readonly url: string
  readonly customer: string
  readonly stream: NonNullable<Target['stream']>
  readonly history: HistoryFile
}

/** One customer's event stream, held open; opened again when it ends, from where it ended, as an EventSource does. */
export class EventStream {
  readonly #options: EventStreamOptions
  readonly #client: Client
  readonly #closed = new AbortController()
  readonly #ended: Promise<void>
  #lastId: string | undefined

  constructor (options: EventStreamOptions) {
    this.#options = options
    this.#client = new Client(options.url, { headersTimeout: 0, bodyTimeout: 0 })
    this.#ended = this.#keepOpen()
  }

  async close (): Promise<void> {
    this.#closed.abort()
    await this.#ended
    await this.#client.destroy()
  }

  async #keepOpen (): Promise<void> {
    const { signal } = this.#closed
    while (!signal.aborted) {
      let rest = ''
      for await (const text of this.#listen()) {
        const blocks = (rest + text).replaceAll('\r\n', '\n').split('\n\n')
        rest = blocks.pop() ?? ''
        for (const block of blocks) this.#tell(block)
      }
      await delay(reopenAfter, undefined, { signal }).catch(() => {})
    }
  }

  async * #listen (): AsyncGenerator<string> {
    const { customer, stream } = this.#options
    const { method, path, headers } = stream.request(customer)
    try {
      const { statusCode, body } = await this.#client.request({
        method,
        path,
        headers: { ...headers, ...this.#lastId !== undefined && { 'last-event-id': this.#lastId } },
        signal: this.#closed.signal
      })
      if (statusCode === 200) yield * body.setEncoding('utf8')
      else await body.dump()
    } catch {
      // It could not be opened, or broke off. What it would have told comes with the next one.
    }
  }

  #tell (block: string): void {
    const { customer, stream, history } = this.#options
    const fields = block.split('\n').map(line => /^(\w+): ?(.*)$/.exec(line) ?? [])
    const valuesOf = (wanted: string): string[] => fields.flatMap(([, name, value]) => name === wanted && value !== undefined ? [value] : [])
    const data = valuesOf('data')
    if (data.length === 0) return
    const event = stream.understand(data.join('\n'))
    if (event !== undefined) history.append({ type: 'event', at: now(), customer, event })
    this.#lastId = valuesOf('id').at(-1) ?? this.#lastId
  }
}
