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

/** What an exchange knows of the connection that it came on. */
export interface Carrier {
  readonly http2: boolean
  /** Whether the client of this request had no way to know that the service is closing. */
  inGoodFaith: (exchange: Exchange) => boolean
  /** Its response is over. */
  left: (exchange: Exchange) => void
}

/**
 * The handler's course.
 * - `none`: it has not started.
 * - `until-settled`: it runs until its promise settles.
 * - `until-answered`: it takes callbacks, returned the reply, or failed and left the rest to an error handler. Only an
 *   answer tells that it is done.
 * - `returned`: it is done.
 */
type Code = 'none' | 'until-settled' | 'until-answered' | 'returned'

/**
 * The response's course.
 * - `open`: nobody has answered.
 * - `given`: the answer was handed over, to a stream perhaps; it is not out.
 * - `left`: the client has gone, and nobody has answered.
 * - `over`: nothing more will be sent.
 */
type Response = 'open' | 'given' | 'left' | 'over'

/** How the request was dealt with, where it was not served in the usual way. */
type Fate = 'refused' | 'behind-close' | 'stalled'

/**
 * One request and all that was begun for it. It has ended when its response is over *and* no code that was started for
 * it still runs: the socket alone tells nothing, as a client may leave in the middle of a transaction.
 *
 * It lets go of the request and the response when the response is over: from then on it is held by the code that can
 * still end it, and not the other way round.
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
  /** Its handler returned the reply: that settles with the response, and says nothing of the handler. */
  #returnedReply = false
  /** The handler of its route is wrapped: what Fastify publishes about it tells nothing new. */
  #followed = false
  #hijacked = false
  #upgraded = false
  #taken: (() => void) | undefined
  #clientGone = false
  /** Decided when the response is over, as what tells is then gone. */
  #begun: boolean | undefined
  #announcesClose = false
  /** What is reported of it once the request is gone. */
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

  /** The response is over, whole or not. */
  get over (): boolean {
    return this.#begun !== undefined
  }

  /** The body of the request has come in whole, as far as the parser has read. */
  get complete (): boolean {
    return this.#raw === undefined || this.#raw.complete !== false
  }

  /** HTTP/2: something of its answer lies ready that the window of its stream does not let out. */
  get unread (): boolean {
    return (this.#stream?.writableLength ?? 0) > 0
  }

  /** HTTP/2: its stream ends as it is. Without an error its client would take what it has for the whole. */
  reset (): void {
    this.#stream?.close(constants.NGHTTP2_CANCEL)
  }

  /**
   * HTTP/2: its answer is out, and all that is left of it is a body that nobody reads to its end. Its stream would stay
   * open until the client has sent that, where HTTP/1 ends with the answer.
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
   * Whether anything was started for it. It was, unless it has to wait behind others, was refused, or waits for its body
   * with Fastify's own reader: hooks run in the turn in which it arrives, and between them and the handler nothing waits.
   */
  get begun (): boolean {
    if (this.#fate === 'refused' || this.#fate === 'behind-close') return false
    // Also after its client has left in the middle of its body: an error handler is then told.
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

  /** A handler has started: that of the route, or the one for what is not found. */
  handlerStarted (): void {
    if (this.#code === 'none' || this.#code === 'returned') this.#code = this.answered ? 'returned' : 'until-answered'
  }

  /** The same, of a handler that this package has wrapped. */
  followedHandlerStarted (): void {
    this.#followed = true
    this.handlerStarted()
  }

  /** The handler is asynchronous: `handlerSettled()` tells when it is done. */
  handlerPromised (): void {
    this.#code = 'until-settled'
  }

  /** @param failed whether an error handler has to answer */
  handlerSettled (failed = false): void {
    const waits = !this.answered && (failed || this.#returnedReply) && !this.#hijacked
    this.#code = waits ? 'until-answered' : 'returned'
  }

  /** `return reply`: its promise settles with the response, and so as soon as the client goes. */
  handlerReturnedReply (): void {
    this.#returnedReply = true
    if (this.#code === 'returned' && !this.answered && !this.#hijacked) this.#code = 'until-answered'
  }

  /** An error handler, or the one for what is not found, has settled: it gives no other answer. */
  substituteSettled (): void {
    if (this.#code === 'until-answered' && !this.#returnedReply) this.#code = 'returned'
  }

  /** A hook or an error handler has started, or an upstream was asked. `codeEnded()` must follow. */
  codeStarted (): void {
    this.#running++
  }

  codeEnded (): void {
    this.#running--
  }

  /** `reply.send()`, `res.end()`, or nothing more to come. */
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

  /** The response is the handler's own business. */
  hijacked (): void {
    this.#hijacked = true
    this.handlerStarted()
    this.#taken?.()
  }

  /**
   * A protocol of its own takes the socket over: the exchange lives as long as that.
   *
   * @param taken called when that has happened, where nobody tells when the socket closes
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
    // Where the head is out the answer was given: Fastify destroys the stream of the rest with the response.
    const given = this.answered || res.writableEnded || res.headersSent || this.#hijacked || this.#upgraded
    this.#response = given ? 'over' : 'left'
    if (given && this.#code === 'until-answered') this.#code = 'returned'
    this.#carrier?.left(this)
  }

  /** From now on only the code that can still end it holds its request and its response. */
  letGo (): void {
    this.#described = this.#identity()
    this.#carrier = this.#raw = this.#res = this.#reply = undefined
  }

  /** It gets an answer that says that nothing was started, and its handler never starts. */
  refuse (): void {
    this.#fate = 'refused'
  }

  /** It came on a connection whose close was already announced: it must not be processed (RFC 9112, 9.6). */
  waitBehindClose (): void {
    this.#fate = 'behind-close'
  }

  /** Its client takes too little: its answer is cut. */
  stall (): void {
    this.#fate ??= 'stalled'
  }

  /** Fastify starts no hook and no handler of a reply that was hijacked. */
  preventStart (): void {
    this.#reply?.hijack()
  }

  get announcesClose (): boolean {
    return this.#announcesClose
  }

  /**
   * `Connection: close`, where it can still be said. Node then ends the socket after this reply.
   * HTTP/2 has no such header (RFC 9113, 8.2.2).
   */
  announceClose (): void {
    if (this.#res === undefined || this.#res.headersSent || this.#carrier?.http2 === true) return
    if (!this.#announcesClose) sayCloseLast(this.#res, () => this.#announcesClose)
    this.#announcesClose = true
  }

  /** @returns whether it could still be withdrawn. Behind one that waits behind a close, everything does. */
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
 * Fastify reads a body into memory by a listener that also knows the error for a body that is too large, and calls the
 * parser when it is whole: nothing of the user's runs meanwhile. Its name alone does not tell, as a parser of the user's may
 * read like that. Should Fastify change it, such a request counts as begun: it is waited for longer than it need be, and
 * never told that nothing was started.
 */
function isReadByFastify (raw: IncomingMessage | undefined): boolean {
  return raw !== undefined && raw.listeners('data').some((listener) => {
    return listener.name === 'onData' && String(listener).includes('FST_ERR_CTP_BODY_TOO_LARGE')
  })
}

/**
 * Says it when the head is written, and not before: proxies copy that of their upstream, `keep-alive`, over what was set.
 * Every response comes through `writeHead()`. It is said among the headers given there: where others are set, Node refuses
 * an array of pairs, and an array replaces earlier values of a name that it has twice.
 */
function sayCloseLast (res: ServerResponse, says: () => boolean): void {
  const { writeHead } = res
  res.writeHead = ((...args: unknown[]) => {
    if (says()) {
      const given = args.findIndex((arg) => typeof arg === 'object' && arg !== null)
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
