import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Clock } from './clock.ts'
import { Exchange } from './exchange.ts'
import type { Carrier } from './exchange.ts'
import { count, tally } from './report.ts'
import type { PendingRequest, Tally } from './report.ts'
import { setImmediate } from './timers.ts'

/** All requests that have not ended, and the counts of those that ended during the stop. */
export class Requests {
  readonly completed = tally()
  readonly stalled = tally()
  readonly refused = tally()
  readonly unstarted = tally()
  readonly abandoned = tally()
  atStart = 0
  /** performance.now() of the last request that an instance out of rotation would not have received. */
  lastArrival = -Infinity
  /** Each exchange knows its place: a Set would cost every request several times as much. */
  readonly #open: Exchange[] = []
  readonly #clock: Clock
  readonly #changed: () => void
  #recording = false
  /**
   * Exchanges whose client has gone before an answer. Code that holds the response can still answer. When nothing holds it
   * any more, no code can: a long poll that was given up, a promise that can no longer settle.
   */
  readonly #unreachable = new FinalizationRegistry<Exchange>(exchange => { this.#end(exchange) })

  constructor (clock: Clock, changed: () => void) {
    this.#clock = clock
    this.#changed = changed
  }

  get size (): number {
    return this.#open.length
  }

  [Symbol.iterator] (): IterableIterator<Exchange> {
    return this.#open.values()
  }

  open (raw: IncomingMessage, res: ServerResponse, carrier: Carrier | undefined): Exchange {
    const exchange = new Exchange(raw, res, carrier, this.#clock.now())
    exchange.place = this.#open.push(exchange) - 1
    // The event comes only once; once() would wrap each listener.
    res.on('close', () => this.responseOver(exchange))
    return exchange
  }

  /** The request has reached its route. */
  routed (exchange: Exchange, request: FastifyRequest, reply: FastifyReply): void {
    exchange.routed(reply)
    // Routes that are served to the end (mostly probes) get requests as long as the process lives, and must not prolong the
    // lame duck. Before the stop this is not checked: Fastify builds `routeOptions` anew at each reading.
    if (!this.#recording || request.routeOptions.config.drain !== 'serve') this.lastArrival = exchange.since
  }

  /** The response is over: sent, or its socket has gone. */
  responseOver (exchange: Exchange): void {
    const { raw, res } = exchange
    if (exchange.over || raw === undefined || res === undefined) return
    exchange.responseOver()
    if (exchange.ended && res.writableFinished) return this.#end(exchange)
    if (!exchange.ended) this.#followUnanswered(exchange, res)
    exchange.letGo()
    // When a client has gone, the request's `close` comes last, and then Fastify calls the `onRequestAbort` hooks. With
    // HTTP/2 it may have come already.
    raw.once?.('close', () => this.#settle(exchange))
    this.settleSoon(exchange)
  }

  /**
   * Must be called whenever code of an exchange has ended. What follows, the next hook or the sending of the result, starts
   * in the same turn.
   */
  settleSoon (exchange: Exchange): void {
    if (exchange.over) setImmediate(() => this.#settle(exchange))
  }

  owns (exchange: Exchange): boolean {
    return this.#open[exchange.place] === exchange
  }

  /** From here on, requests that end are counted for the report. */
  record (): void {
    this.#recording = true
    this.#clock.readAlways()
    this.atStart = this.#open.length
  }

  /** Gives up a request that has not begun, and makes sure that it never will. */
  giveUp (exchange: Exchange): void {
    exchange.preventStart()
    if (this.#remove(exchange)) this.#count(exchange, exchange.fate === 'refused' ? this.refused : this.unstarted)
  }

  /** Abandons the requests that have begun and not ended. */
  abandon (): void {
    for (const exchange of this.#open) count(exchange.begun ? this.abandoned : this.unstarted, exchange.id)
    this.#open.length = 0
    this.#recording = false
  }

  pending (): PendingRequest[] {
    const pending: PendingRequest[] = []
    for (const exchange of this.#open) {
      if (pending.length === 100) break
      pending.push(exchange.describe())
    }
    return pending
  }

  #settle (exchange: Exchange): void {
    if (!exchange.ended) return
    this.#unreachable.unregister(exchange)
    this.#end(exchange)
  }

  #end (exchange: Exchange): void {
    if (this.#remove(exchange)) this.#count(exchange, this.#tallyOf(exchange))
  }

  #tallyOf ({ fate, begun }: Exchange): Tally {
    if (fate === 'refused') return this.refused
    if (fate === 'stalled') return this.stalled
    return begun ? this.completed : this.unstarted
  }

  #count (exchange: Exchange, into: Tally): void {
    if (this.#recording) count(into, exchange.id)
    this.#changed()
  }

  /** @returns whether it was open */
  #remove (exchange: Exchange): boolean {
    if (!this.owns(exchange)) return false
    const last = this.#open.pop()
    if (last !== undefined && last !== exchange) {
      this.#open[exchange.place] = last
      last.place = exchange.place
    }
    return true
  }

  /**
   * The client has gone and code still runs for it, which may answer by `res.end()`, without Fastify. Only this response
   * gets an override of `end()`, so that other requests pay nothing.
   */
  #followUnanswered (exchange: Exchange, res: ServerResponse): void {
    this.#unreachable.register(res, exchange, exchange)
    // An HTTP/2 response emits `close` only to earlier listeners, and never shows that it was ended later. Fastify would wait
    // forever after `return reply`, and before it destroys the stream of an answer.
    const http2 = !('closed' in res) && exchange.carrier?.http2 === true
    if (http2) Object.defineProperty(res, 'closed', { value: true })
    const { end } = res
    res.end = ((...args: unknown[]) => {
      const result = Reflect.apply(end, res, args) as ServerResponse
      if (http2) Object.defineProperty(res, 'writableEnded', { value: true, configurable: true })
      exchange.answerGiven()
      this.settleSoon(exchange)
      return result
    }) as typeof end
  }
}
