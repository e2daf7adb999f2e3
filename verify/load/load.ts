import { setTimeout as delay } from 'node:timers/promises'
import type { HistoryFile } from '../history-file.ts'
import { now, type Completion, type Time } from '../history.ts'
import { random } from '../random.ts'
import type { Product, Target } from '../target.ts'
import { Clients, type Asked } from './clients.ts'
import type { Connection } from './connection.ts'
import { EventStream } from './event-stream.ts'
import type { Mix } from './mix.ts'
import { Plan, type Planned } from './plan.ts'
import type { Counts } from './settings.ts'

/** ms that streams stay open after the last answer, for events that are owed to them. */
const usualPatienceMs = 15_000
const streamPollMs = 50
/** `pressUntil`: until then, another arrival follows each answer. */
type Due = Planned & Asked & { readonly pressUntil?: Time | undefined }

export interface LoadOptions {
  readonly target: Pick<Target, 'request' | 'understand' | 'stream' | 'orders' | 'states' | 'features'>
  readonly urls: readonly [string, ...string[]]
  readonly clients: number
  readonly timeoutMs?: number | undefined
  readonly products: readonly Product[]
  readonly history: HistoryFile
  /** Arrivals per second, on average. max: as many as the service takes. */
  readonly rate: number | 'max'
  /** ms. */
  readonly duration: number
  readonly seed: number
  readonly mix?: Partial<Mix> | undefined
  /** After the duration it goes on without arrivals until `finish`. */
  readonly untilFinished?: boolean | undefined
  /** ms that streams stay open at the end for events that are owed to them. Default: 15,000. */
  readonly patienceMs?: number | undefined
}

/** ms that a client waits after it found the service down, if nothing else delays its next request. */
const awayMs = 250

/**
 * An open loop: arrivals do not wait for answers. (A closed loop would send least when the service is slowest.) An arrival that
 * finds every client busy waits for one, and is due since it arrived. At the rate `max` the loop is closed: every client sends
 * its next request as soon as it has its answer, so that the service is always at full load.
 */
export class Load {
  /** Resolves when the last request is over. */
  readonly ended: Promise<void>
  readonly #clients: Clients
  readonly #plan: Plan
  /** Streams by customer. */
  readonly #streams = new Map<string, EventStream>()
  readonly #openStream: ((customer: string) => EventStream) | undefined
  #regulars: readonly string[] = []
  readonly #isClosed: boolean
  readonly #patienceMs: number
  readonly #free: Connection[]
  readonly #queue: Due[] = []
  /** ms to the next arrival. */
  readonly #interval: () => number
  readonly #settle = Promise.withResolvers<void>()
  #due: Time
  #end: Time
  #goesOn: boolean
  #timer: NodeJS.Timeout | undefined
  #isOver = false

  constructor ({ target, urls, rate, duration, seed, products, mix, history, untilFinished = false, patienceMs = usualPatienceMs, ...options }: LoadOptions) {
    this.#clients = new Clients({ target, urls, history, ...options })
    this.#free = [...this.#clients.connections]
    this.#plan = new Plan({ seed, products, target, mix })
    const draw = random(seed)
    this.#isClosed = rate === 'max'
    this.#interval = () => rate === 'max' ? Infinity : -Math.log(1 - draw()) * 1000 / rate
    const { stream } = target
    this.#goesOn = untilFinished
    this.#patienceMs = patienceMs
    let opened = 0
    this.#openStream = stream && (customer => new EventStream({ url: urls[opened++ % urls.length] ?? urls[0], customer, stream, history }))
    this.#keepStreams()
    const start = now()
    this.#due = this.#isClosed ? start : start + this.#interval()
    this.#end = start + duration
    this.ended = this.#settle.promise.then(() => this.#close())
    this.#arrive()
  }

  get counts (): Counts {
    return { ...this.#clients.counts, acknowledged: this.#plan.acknowledged }
  }

  /** Ends the arrivals; those that have arrived are still sent. */
  stop (): void {
    this.#end = 0
    this.#goesOn = false
    clearTimeout(this.#timer)
    this.#dispatch()
  }

  /**
   * Makes `count` arrivals at once, in addition to those that are due, and another one for each answer within `ms`, so that a
   * quick service is as busy as a slow one. The first ones are under way when it returns, as far as clients are free.
   */
  burst (count: number, ms: number): void {
    this.#press(count, now() + ms)
    this.#dispatch()
  }

  /**
   * Call when the faults are over: makes some more arrivals, and every customer reads the list of all their orders.
   * @param rest ms of further arrivals
   */
  finish (rest: number): void {
    if (!this.#goesOn) return
    this.#goesOn = false
    this.#due = this.#isClosed ? now() : Math.max(this.#due, now())
    this.#end = this.#due + rest
    this.#enqueue(this.#plan.walks(), now())
    clearTimeout(this.#timer)
    this.#arrive()
  }

  #arrive (): void {
    const time = now()
    if (this.#isClosed) {
      this.#due = this.#end
      this.#timer = setTimeout(() => this.#dispatch(), Math.max(0, this.#end - time))
    }
    for (; this.#due <= time && this.#due < this.#end; this.#due += this.#interval()) this.#next(this.#due)
    if (this.#due < this.#end) this.#timer = setTimeout(() => this.#arrive(), Math.max(0, this.#due - now()))
    this.#dispatch()
  }

  #next (due: Time): void {
    this.#enqueue(this.#plan.next(), due)
    this.#keepStreams()
  }

  /** Opens the streams of the present regulars. The stream of a former regular is closed when it owes no event any more. */
  #keepStreams (): void {
    const { regulars } = this.#plan
    if (this.#openStream === undefined || this.#streams.has(regulars[0] ?? '')) return
    const before = this.#regulars
    this.#regulars = regulars
    for (const customer of regulars) this.#streams.set(customer, this.#openStream(customer))
    for (const customer of before) void this.#retire(customer)
  }

  async #retire (customer: string): Promise<void> {
    const stream = this.#streams.get(customer)
    while (stream?.isOwed === true && !this.#isOver) await delay(streamPollMs)
    if (this.#isOver) return
    this.#streams.delete(customer)
    await stream?.close()
  }

  #enqueue (planned: readonly Planned[], scheduled: Time, pressUntil?: Time): void {
    for (const each of planned) this.#queue.push({ ...each, scheduled, pressUntil })
  }

  #press (count: number, until: Time): void {
    this.#enqueue(this.#plan.burst(count), now(), until)
  }

  #dispatch (): void {
    while (this.#isClosed && this.#queue.length === 0 && this.#free.length > 0 && now() < this.#end) {
      this.#next(now())
      this.#send()
    }
    this.#send()
    if (this.#due >= this.#end && !this.#goesOn && this.#queue.length === 0 && this.#free.length === this.#clients.connections.length) this.#settle.resolve()
  }

  #send (): void {
    while (this.#queue[0] !== undefined) {
      if (now() - this.#queue[0].scheduled > this.#clients.timeoutMs) {
        this.#clients.giveUp(this.#queue[0])
      } else {
        // The client that has been free the longest, so that all are used and few connections grow old.
        const connection = this.#free.shift()
        if (connection === undefined) return
        void this.#ask(this.#queue[0], connection)
      }
      this.#queue.shift()
    }
  }

  async #ask (asked: Due, connection: Connection): Promise<void> {
    const { operation, pages = 1, then, pressUntil } = asked
    const owe = this.#streams.get(this.#plan.ownerOf(operation))?.witness()
    const completion = await this.#clients.ask(asked, connection)
    if (completion.type === 'ok' && completion.order !== undefined && operation.kind !== 'read') owe?.(completion.order)
    this.#plan.learn(operation, completion)
    if (operation.kind === 'list' && completion.next !== undefined && pages > 1) {
      this.#enqueue([{ ...asked, operation: { ...operation, cursor: completion.next }, pages: pages - 1 }], now())
    }
    const next = then?.(completion)
    if (next !== undefined) this.#enqueue([next], now())
    if (pressUntil !== undefined && now() < pressUntil && !isAway(completion)) this.#press(1, pressUntil)
    if (this.#isClosed && isAway(completion)) await delay(awayMs)
    this.#free.push(connection)
    this.#dispatch()
  }

  async #close (): Promise<void> {
    this.#isOver = true
    const streams = [...this.#streams.values()]
    const until = now() + this.#patienceMs
    while (now() < until && streams.some(({ isOwed }) => isOwed)) await delay(streamPollMs)
    await Promise.all([this.#clients.close(), ...streams.map(stream => stream.close())])
  }
}

/** Whether the service was down, or could not serve. If a client hung up, that is unknown. */
function isAway ({ error, status, type }: Completion): boolean {
  return error === 'hang-up' ? false : status === undefined || status === 503 || (type === 'info' && error !== undefined)
}
