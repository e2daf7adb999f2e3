import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'undici'
import type { HistoryFile } from '../history-file.ts'
import { now, type StreamState } from '../history.ts'
import type { Target } from '../target.ts'

/** ms from the end of a stream to the next try. */
const reopenAfter = 500

export interface EventStreamOptions {
  readonly url: string
  readonly customer: string
  readonly stream: NonNullable<Target['stream']>
  readonly history: HistoryFile
}

/** One customer's event stream. It is reopened when it ends, and resumes from its last event, like an EventSource. */
export class EventStream {
  readonly #options: EventStreamOptions
  readonly #client: Client
  readonly #closed = new AbortController()
  readonly #ended: Promise<void>
  readonly #told = new Set<string>()
  readonly #acknowledged = new Set<string>()
  readonly #owed = new Set<string>()
  #lastId: string | undefined
  /** Changes whenever the service begins anew to guarantee every event; undefined while it does not. */
  #vouched: symbol | undefined

  constructor (options: EventStreamOptions) {
    this.#options = options
    this.#client = new Client(options.url, { headersTimeout: 0, bodyTimeout: 0 })
    this.#ended = this.#keepOpen()
  }

  /** Whether the event of an acknowledged change has not arrived yet. */
  get isOwed (): boolean {
    return this.#owed.size > 0
  }

  /**
   * Call before sending a request, and call the returned function when the request was acknowledged: its event is owed then, if
   * the stream was open before.
   */
  witness (): (order: { readonly id: string, readonly version: number }) => void {
    const vouched = this.#vouched
    return ({ id, version }) => {
      const name = `${id} ${version}`
      // A retry may be about a change from before the stream was open.
      const isNews = !this.#acknowledged.has(name) && !this.#told.has(name)
      this.#acknowledged.add(name)
      if (isNews && vouched !== undefined && vouched === this.#vouched) this.#owed.add(name)
    }
  }

  async close (): Promise<void> {
    this.#record('closed')
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
      if (statusCode !== 200) {
        await body.dump()
        return
      }
      this.#opened()
      yield * body.setEncoding('utf8')
    } catch {
      // It could not be opened, or broke off. The next connection brings the missing events.
    }
    if (!this.#closed.signal.aborted) this.#record('ended')
  }

  #opened (): void {
    // It now sends what happened since the last event. Without a last event, it begins with what happens from now on.
    if (this.#lastId === undefined) this.#vouchAnew()
    this.#record('opened', this.#lastId)
  }

  #vouchAnew (): void {
    this.#vouched = Symbol('since')
    this.#owed.clear()
  }

  #record (state: StreamState['state'], after?: string): void {
    const { customer, history } = this.#options
    history.append({ type: 'stream', at: now(), customer, state, ...after !== undefined && { after } })
  }

  #tell (block: string): void {
    const { customer, stream, history } = this.#options
    const fields = block.split('\n').map(line => /^(\w+): ?(.*)$/.exec(line) ?? [])
    const valuesOf = (wanted: string): string[] => fields.flatMap(([, name, value]) => name === wanted && value !== undefined ? [value] : [])
    const data = valuesOf('data')
    if (valuesOf('event').at(-1) === 'gap') {
      this.#vouchAnew()
      this.#record('gap')
    } else if (data.length > 0) {
      const event = stream.understand(data.join('\n'))
      if (event !== undefined) history.append({ type: 'event', at: now(), customer, event })
      if (event !== undefined) this.#remember(event)
    } else {
      return
    }
    this.#lastId = valuesOf('id').at(-1) ?? this.#lastId
  }

  #remember ({ orderId, version }: { readonly orderId: string, readonly version: number }): void {
    const name = `${orderId} ${version}`
    this.#told.add(name)
    this.#owed.delete(name)
  }
}
