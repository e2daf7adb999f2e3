import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants } from 'node:http2'
import type { Http2Stream } from 'node:http2'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { PendingRequest } from './report.ts'
import { now } from './timers.ts'

const kExchange = Symbol('fastify-drain.exchange')

type RawRequest = IncomingMessage & { [kExchange]?: Exchange }

export function exchangeOf (raw: IncomingMessage): Exchange | undefined {
  return (raw as RawRequest)[kExchange]
}

/** What an exchange knows of its connection. */
export interface Carrier {
  readonly http2: boolean
  /** Whether the client of this request had no way to know that the service is closing. */
  inGoodFaith: (exchange: Exchange) => boolean
  /** The response of the exchange is over. */
  left: (exchange: Exchange) => void
}

/**
 * How far the handler is.
 * - `none`: it has not started.
 * - `until-settled`: it runs until its promise settles.
 * - `until-answered`: it takes callbacks, returned the reply, or failed and left the answer to an error handler. Only an
 *   answer shows that it is done.
 * - `returned`: it is done.
 */
type Code = 'none' | 'until-settled' | 'until-answered' | 'returned'

/**
 * How far the response is.
 * - `open`: there is no answer yet.
 * - `given`: the answer was handed over, perhaps as a stream, and is not yet sent.
 * - `left`: the client has gone before an answer.
 * - `over`: nothing more will be sent.
 */
type Response = 'open' | 'given' | 'left' | 'over'

/** What happened to a request that was not served in the usual way. */
type Fate = 'refused' | 'behind-close' | 'stalled'

/**
 * One request and all code that runs for it. It has ended when its response is over *and* none of its code still runs:
 * the socket alone shows nothing, because a client may leave in the middle of a transaction.
 *
 * It drops its references to the request and the response when the response is over. From then on only the code that can
 * still end the exchange holds them, so that the garbage collector shows when no code can.
 */
export class Exchange {
  /** `Clock.now()`. */
  readonly since: number
  /** Its index among the open requests. */
  place = -1
  #carrier: Carrier | undefined
  #raw: IncomingMessage | undefined
  #res: ServerResponse | undefined
  #reply: FastifyReply | undefined
  #code: Code = 'none'
  #response: Response = 'open'
  #fate: Fate | undefined
  /** Hooks, error handlers and proxied calls that run for it. */
  #running = 0
  /** The handler returned the reply, which settles with the response and shows nothing about the handler. */
  #returnedReply = false
  /** This package has wrapped the route's handler, so that the events which Fastify publishes are not needed. */
  #followed = false
  #hijacked = false
  #upgraded = false
  #taken: (() => void) | undefined
  #clientGone = false
  /** Decided when the response is over, because the request is dropped then. */
  #begun: boolean | undefined
  #announcesClose = false
  /** What the report says of it once the request is dropped. */
  #described: Pick<PendingRequest, 'id' | 'method' | 'route'> | undefined

  constructor (raw: IncomingMessage, res: ServerResponse, carrier: Carrier | undefined, since: number) {
    this.#raw = raw
    this.#res = res
    this.#carrier = carrier
    this.since = since
    ;(raw as RawRequest)[kExchange] = this
  }

  /** Undefined for `app.inject()`, and once the response is over. */
  get carrier (): Carrier | undefined {
    return this.#carrier
  }

  /** Undefined once the response is over. */
  get raw (): IncomingMessage | undefined {
    return this.#raw
  }

  /** Undefined once the response is over. */
  get res (): ServerResponse | undefined {
    return this.#res
  }

  get request (): FastifyRequest | undefined {
    return this.#reply?.request
  }

  get id (): string | null {
    if (this.#described !== undefined) return this.#described.id
    return this.#reply === undefined ? null : String(this.#reply.request.id)
  }

  get fate (): Fate | undefined {
    return this.#fate
  }

  get followed (): boolean {
    return this.#followed
  }

  get isHijacked (): boolean {
    return this.#hijacked
  }

  get upgraded (): boolean {
    return this.#upgraded
  }

  /** The response is over, complete or not. */
  get over (): boolean {
    return this.#begun !== undefined
  }

  /** The parser has read the whole body of the request. */
  get complete (): boolean {
    return this.#raw === undefined || this.#raw.complete !== false
  }

  /** HTTP/2: a part of the answer waits, because the window of its stream is full. */
  get unread (): boolean {
    return (this.#stream?.writableLength ?? 0) > 0
  }

  /** HTTP/2: ends the stream with an error. Without it, the client would take a partial answer for the whole. */
  reset (): void {
    this.#stream?.close(constants.NGHTTP2_CANCEL)
  }

  /**
   * HTTP/2: the answer is sent, and only a body that nothing reads is left. The stream would stay open until the client
   * has sent all of it; an HTTP/1 exchange ends with the answer.
   */
  get onlyUploads (): boolean {
    const done = this.answered && this.#running === 0 && (this.#code === 'none' || this.#code === 'returned')
    return (done || this.#fate === 'refused') && this.#stream?.writableFinished === true
  }

  /** HTTP/2: asks for no more of the body (RFC 9113, 8.1). */
  endUpload (): void {
    this.#stream?.close(constants.NGHTTP2_NO_ERROR)
  }

  get #stream (): Http2Stream | undefined {
    return (this.#res as { stream?: Http2Stream } | undefined)?.stream
  }

  /**
   * Whether any code was started for the request. It was, unless the request is behind a close, was refused, or waits for
   * its body with Fastify's own reader: hooks run in the turn in which it arrives, and the handler follows without a wait.
   */
  get begun (): boolean {
    if (this.#fate === 'refused' || this.#fate === 'behind-close') return false
    // Also after a client has left in the middle of its body: Fastify then calls an error handler.
    if (this.#running > 0 || this.#code === 'until-settled' || this.#code === 'until-answered') return true
    if (this.#begun !== undefined) return this.#begun
    return this.#code !== 'none' || this.complete || !isReadByFastify(this.#raw)
  }

  get answered (): boolean {
    return this.#response === 'given' || this.#response === 'over'
  }

  get ended (): boolean {
    if (!this.over || this.#running > 0 || this.#code === 'until-settled') return false
    return this.answered || this.#code === 'returned'
  }

  /** The request has reached its route. */
  routed (reply: FastifyReply): void {
    this.#reply = reply
  }

  /** A handler has started: that of the route, or the not-found handler. */
  handlerStarted (): void {
    if (this.#code === 'none' || this.#code === 'returned') this.#code = this.answered ? 'returned' : 'until-answered'
  }

  /** The same, for a handler that this package has wrapped. */
  followedHandlerStarted (): void {
    this.#followed = true
    this.handlerStarted()
  }

  /** The handler is asynchronous: `handlerSettled()` will follow. */
  handlerPromised (): void {
    this.#code = 'until-settled'
  }

  /** @param failed whether an error handler has to answer */
  handlerSettled (failed = false): void {
    const waits = !this.answered && (failed || this.#returnedReply) && !this.#hijacked
    this.#code = waits ? 'until-answered' : 'returned'
  }

  /** `return reply`: the handler's promise settles with the response, and so as soon as the client goes. */
  handlerReturnedReply (): void {
    this.#returnedReply = true
    if (this.#code === 'returned' && !this.answered && !this.#hijacked) this.#code = 'until-answered'
  }

  /** An error handler or the not-found handler has settled: no other answer will come from it. */
  substituteSettled (): void {
    if (this.#code === 'until-answered' && !this.#returnedReply) this.#code = 'returned'
  }

  /** A hook, an error handler or a proxied call has started. `codeEnded()` must follow. */
  codeStarted (): void {
    this.#running++
  }

  codeEnded (): void {
    this.#running--
  }

  /** By `reply.send()`, by `res.end()`, or because nothing more will come. */
  answerGiven (): void {
    if (this.#response === 'open') this.#response = 'given'
    else if (this.#response === 'left') this.#response = 'over'
    if (this.#code === 'until-answered') this.#code = 'returned'
  }

  /** An error handler will give another answer. */
  answerWithdrawn (): void {
    if (this.#response === 'given') this.#response = 'open'
    else if (this.#response === 'over' && this.#clientGone) this.#response = 'left'
    if (this.#code === 'returned') this.#code = 'until-answered'
  }

  /** The handler has called `reply.hijack()`, and answers without Fastify. */
  hijacked (): void {
    this.#hijacked = true
    this.handlerStarted()
    this.#taken?.()
  }

  /**
   * Another protocol takes the socket over: the exchange lives as long as the socket.
   *
   * @param taken called at the takeover, for a socket whose close nothing will announce
   */
  upgrade (taken?: () => void): void {
    this.#upgraded = true
    this.#taken = taken
  }

  /** The response is over: sent, or its socket has gone. */
  responseOver (): void {
    const res = this.#res
    if (this.over || res === undefined) return
    this.#begun = this.begun
    this.#clientGone = !res.writableEnded
    // If the head is sent, the answer was given: Fastify destroys the stream of the rest together with the response.
    const given = this.answered || res.writableEnded || res.headersSent || this.#hijacked || this.#upgraded
    this.#response = given ? 'over' : 'left'
    if (given && this.#code === 'until-answered') this.#code = 'returned'
    this.#carrier?.left(this)
  }

  /** From now on only the code that can still end the exchange holds its request and its response. */
  letGo (): void {
    this.#described = this.#identity()
    this.#carrier = this.#raw = this.#res = this.#reply = undefined
  }

  /** It gets a not-started answer, and its handler never starts. */
  refuse (): void {
    this.#fate = 'refused'
  }

  /** It arrived after the close of its connection was announced: it must not be processed (RFC 9112, 9.6). */
  waitBehindClose (): void {
    this.#fate = 'behind-close'
  }

  /** Its client reads too slowly: its answer is cut. */
  stall (): void {
    this.#fate ??= 'stalled'
  }

  /** Fastify starts no hook and no handler for a hijacked reply. */
  preventStart (): void {
    this.#reply?.hijack()
  }

  get announcesClose (): boolean {
    return this.#announcesClose
  }

  /**
   * Sets `Connection: close` if the head is not yet sent. Node then ends the socket after this reply.
   * HTTP/2 has no such header (RFC 9113, 8.2.2).
   */
  announceClose (): void {
    if (this.#res === undefined || this.#res.headersSent || this.#carrier?.http2 === true) return
    if (!this.#announcesClose) sayCloseLast(this.#res, () => this.#announcesClose)
    this.#announcesClose = true
  }

  /** @returns whether the announcement could be withdrawn. A request behind one that waits behind a close waits too. */
  withdrawClose (): boolean {
    if (this.#fate === 'behind-close') return false
    if (this.#announcesClose && (this.#res === undefined || this.#res.headersSent)) return false
    this.#announcesClose = false
    return true
  }

  describe (): PendingRequest {
    const done = this.#code !== 'until-settled' && this.answered
    return {
      ...this.#described ?? this.#identity(),
      age: Math.round(now() - this.since),
      phase: !this.begun ? 'waiting' : done ? 'response' : 'handler',
      clientGone: this.#clientGone
    }
  }

  #identity (): Pick<PendingRequest, 'id' | 'method' | 'route'> {
    return {
      id: this.id,
      method: this.#raw?.method ?? '',
      route: this.#reply?.request.routeOptions.url ?? this.#raw?.url?.split('?', 1)[0] ?? ''
    }
  }
}

/**
 * Fastify reads a body into memory, and calls the parser when it is complete; no code of the application runs meanwhile.
 * Its listener is recognised by its name and by the error for a body that is too large: the name alone may be that of a
 * parser of the application. If Fastify changes the listener, such a request counts as begun: the stop waits longer than
 * necessary, and the request never gets a not-started answer.
 */
function isReadByFastify (raw: IncomingMessage | undefined): boolean {
  return raw !== undefined && raw.listeners('data').some(listener => {
    return listener.name === 'onData' && String(listener).includes('FST_ERR_CTP_BODY_TOO_LARGE')
  })
}

/**
 * Sets the header only when the head is written: proxies copy their upstream's `keep-alive` over an earlier value. Every
 * response goes through `writeHead()`. The header is added to those given there: after `setHeader()`, Node refuses an
 * array of pairs, and an array replaces earlier values of a name that it contains twice.
 */
function sayCloseLast (res: ServerResponse, says: () => boolean): void {
  const { writeHead } = res
  res.writeHead = ((...args: unknown[]) => {
    if (says()) {
      const given = args.findIndex(arg => typeof arg === 'object' && arg !== null)
      if (given === -1) res.setHeader('Connection', 'close')
      else args[given] = withClose(args[given] as object)
    }
    return Reflect.apply(writeHead, res, args) as ServerResponse
  }) as typeof writeHead
}

/** @param headers as `writeHead()` takes them */
function withClose (headers: object): unknown {
  if (!Array.isArray(headers)) {
    return { ...Object.fromEntries(Object.entries(headers).filter(([name]) => !isConnection(name))), Connection: 'close' }
  }
  if (Array.isArray(headers[0])) return [...headers.filter(([name]) => !isConnection(name)), ['Connection', 'close']]
  return [...headers.filter((_, index) => !isConnection(headers[index - index % 2])), 'Connection', 'close']
}

function isConnection (name: unknown): boolean {
  return String(name).toLowerCase() === 'connection'
}
