import type { HistoryFile } from '../history-file.ts'
import { now, type Time } from '../history.ts'
import { random } from '../random.ts'
import type { Product, Target } from '../target.ts'
import { Clients, type Asked } from './clients.ts'
import type { Connection } from './connection.ts'
import { EventStream } from './event-stream.ts'
import type { Mix } from './mix.ts'
import { Plan } from './plan.ts'
import type { Counts } from './settings.ts'

/** One customer in so many has a stream open. */
const streamEvery = 5

export interface LoadOptions {
  readonly target: Pick<Target, 'request' | 'understand' | 'stream'>
  readonly urls: readonly [string, ...string[]]
  readonly clients: number
  readonly timeout?: number | undefined
  readonly products: readonly Product[]
  readonly history: HistoryFile
  /** Arrivals per second, on average. */
  readonly rate: number
  /** ms. */
  readonly duration: number
  readonly seed: number
  readonly mix?: Partial<Mix> | undefined
}

/**
 * An open loop: what arrives does not wait for what has been answered (a closed one would ask least when the service is
 * at its worst). An arrival that finds every client busy waits for one, and is due since it arrived.
 */
export class Load {
  /** Resolves when the last request is over. */
  readonly ended: Promise<void>
  readonly #clients: Clients
  readonly #plan: Plan
  readonly #streams: readonly EventStream[]
  readonly #free: Connection[]
  readonly #queue: Array<Asked & { pages: number }> = []
  /** ms to the next arrival. */
  readonly #interval: () => number
  readonly #settle = Promise.withResolvers<void>()
  #due: Time
  #end: Time
  #timer: NodeJS.Timeout | undefined

  constructor ({ target, urls, rate, duration, seed, products, mix, history, ...options }: LoadOptions) {
    this.#clients = new Clients({ target, urls, history, ...options })
    this.#free = [...this.#clients.connections]
    this.#plan = new Plan({ seed, products, target, mix })
    const draw = random(seed)
    this.#interval = () => -Math.log(1 - draw()) * 1000 / rate
    const { stream } = target
    this.#streams = stream === undefined
      ? []
      : this.#plan.customers.filter((_, i) => i % streamEvery === 0).map((customer, i) => {
        return new EventStream({ url: urls[i % urls.length] ?? urls[0], customer, stream, history })
      })
    const start = now()
    this.#due = start + this.#interval()
    this.#end = start + duration
    this.ended = this.#settle.promise.then(() => this.#close())
    this.#arrive()
  }

  get counts (): Counts {
    return this.#clients.counts
  }

  /** Nothing arrives any more; what has arrived is asked. */
  stop (): void {
    this.#end = 0
    clearTimeout(this.#timer)
    this.#dispatch()
  }

  #arrive (): void {
    const time = now()
    for (; this.#due <= time && this.#due < this.#end; this.#due += this.#interval()) {
      for (const { pages = 1, ...planned } of this.#plan.next()) this.#queue.push({ ...planned, pages, scheduled: this.#due })
    }
    if (this.#due < this.#end) this.#timer = setTimeout(() => this.#arrive(), Math.max(0, this.#due - now()))
    this.#dispatch()
  }

  #dispatch (): void {
    while (this.#queue[0] !== undefined) {
      if (now() - this.#queue[0].scheduled > this.#clients.timeout) {
        this.#clients.giveUp(this.#queue[0])
      } else {
        // The one that has been free the longest: all of them are in use, and few grow old.
        const connection = this.#free.shift()
        if (connection === undefined) return
        void this.#ask(this.#queue[0], connection)
      }
      this.#queue.shift()
    }
    if (this.#due >= this.#end && this.#free.length === this.#clients.connections.length) this.#settle.resolve()
  }

  async #ask (asked: Asked & { pages: number }, connection: Connection): Promise<void> {
    const { operation, pages } = asked
    const completion = await this.#clients.ask(asked, connection)
    this.#plan.learn(operation, completion)
    if (operation.kind === 'list' && completion.next !== undefined && pages > 1) {
      this.#queue.push({ ...asked, operation: { ...operation, cursor: completion.next }, pages: pages - 1, scheduled: now() })
    }
    this.#free.push(connection)
    this.#dispatch()
  }

  async #close (): Promise<void> {
    await Promise.all([this.#clients.close(), ...this.#streams.map(stream => stream.close())])
  }
}
