import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Connection } from './connections.ts'
import type { Clock } from './clock.ts'
import { Exchange } from './exchange.ts'
import { count, tally } from './report.ts'
import type { PendingRequest } from './report.ts'

/** Every request that has not ended, and what became of those that ended during the stop. */
export class Requests {
  readonly completed = tally()
  readonly refused = tally()
  readonly unstarted = tally()
  readonly abandoned = tally()
  atStart = 0
  /** performance.now() of the last request that would not have come to an instance out of rotation. */
  lastArrival = -Infinity
  /** Each knows its place: a Set would cost every request several times as much. */
  readonly #open: Exchange[] = []
  readonly #clock: Clock
  readonly #ended: (exchange: Exchange) => void
  #recording = false

  constructor (clock: Clock, ended: (exchange: Exchange) => void) {
    this.#clock = clock
    this.#ended = ended
  }

  get size (): number {
    return this.#open.length
  }

  [Symbol.iterator] (): IterableIterator<Exchange> {
    return this.#open.values()
  }

  open (raw: IncomingMessage, res: ServerResponse, connection: Connection | undefined): Exchange {
    const exchange = new Exchange(raw, res, connection, this.#clock.now())
    exchange.place = this.#open.push(exchange) - 1
    // It comes only once anyhow; once() would wrap each listener.
    res.on('close', () => this.closed(exchange))
    return exchange
  }

  /** The request has reached its route. */
  routed (exchange: Exchange, request: FastifyRequest, reply: FastifyReply): void {
    exchange.reply = reply
    // No event tells that a handler for what is not found has started.
    if (request.is404) exchange.begun = true
    // What is served to the end (probes, mostly) is asked for as long as the process lives, and must not prolong the lame
    // duck. Before the stop nobody looks: `routeOptions` is built anew at each reading.
    if (!this.#recording || request.routeOptions.config.drain !== 'serve') this.lastArrival = exchange.since
  }

  /** The response is over: sent, or its socket has gone. */
  closed (exchange: Exchange): void {
    if (exchange.closed) return
    exchange.closed = true
    if (exchange.running && exchange.hijacked && !exchange.followed) {
      // After `reply.hijack()` the events tell no more; the handler's own promise does, where it is known.
      const settled = (): void => this.returned(exchange)
      if (exchange.promise === undefined) settled()
      else exchange.promise.then(settled, settled)
    }
    if (!exchange.res.writableEnded && !exchange.hijacked && !exchange.upgraded) {
      // Where the head was sent the answer was given: Fastify destroys the stream of the rest with the response.
      if (exchange.res.headersSent) exchange.answered = true
      else this.#followAnswer(exchange)
    }
    this.settle(exchange)
  }

  /** Its handler has settled. */
  returned (exchange: Exchange): void {
    exchange.running = false
    exchange.returned = true
    if (exchange.closed) this.settle(exchange)
  }

  owns (exchange: Exchange): boolean {
    return this.#open[exchange.place] === exchange
  }

  /** To be called whenever something of an exchange has come to its end. */
  settle (exchange: Exchange): void {
    if (!exchange.ended || !this.#remove(exchange)) return
    if (this.#recording) {
      const into = exchange.refused ? this.refused : exchange.behindClose || (!exchange.begun && !exchange.res.writableEnded) ? this.unstarted : this.completed
      count(into, exchange.id)
    }
    this.#ended(exchange)
  }

  /** From here on, what ends is counted for the report. */
  record (): void {
    this.#recording = true
    this.#clock.readAlways()
    this.atStart = this.#open.length
  }

  /** Gives up on a request whose handler has not started, and sees to it that it never does. */
  forgo (exchange: Exchange): void {
    // Fastify starts no handler of a reply that has been sent or hijacked.
    exchange.reply?.hijack()
    if (!this.#remove(exchange)) return
    if (this.#recording) count(exchange.refused ? this.refused : this.unstarted, exchange.id)
    this.#ended(exchange)
  }

  /** What has begun and not ended is abandoned. */
  abandon (): void {
    for (const exchange of this.#open) count(exchange.begun && !exchange.behindClose ? this.abandoned : this.unstarted, exchange.id)
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
   * The client has gone and the handler works on, with callbacks or before it has started: it is done when it answers.
   * Overridden on this one reply only, so that requests in the usual course pay nothing.
   */
  #followAnswer (exchange: Exchange): void {
    const { res, reply } = exchange
    const answered = (): void => {
      exchange.answered = true
      this.settle(exchange)
    }
    const end = res.end
    res.end = function (this: ServerResponse, ...args: unknown[]) {
      const result = Reflect.apply(end, this, args) as ServerResponse
      answered()
      return result
    } as typeof res.end
    if (reply === undefined) return
    const send = reply.send
    reply.send = function (this: FastifyReply, payload?: unknown) {
      const result = send.call(this, payload)
      // A stream is destroyed with the socket that it should go to, and `res.end()` never called.
      if (isStream(payload)) answered()
      return result
    } as typeof reply.send
  }
}

function isStream (payload: unknown): boolean {
  return typeof payload === 'object' && payload !== null && ('pipe' in payload || 'getReader' in payload || payload instanceof Response)
}
