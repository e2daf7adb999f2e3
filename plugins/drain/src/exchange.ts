import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Connection } from './connections.ts'
import type { PendingRequest } from './report.ts'

const kExchange = Symbol('fastify-drain.exchange')

type RawRequest = IncomingMessage & { [kExchange]?: Exchange }

export function exchangeOf (raw: IncomingMessage): Exchange | undefined {
  return (raw as RawRequest)[kExchange]
}

/**
 * One request and all that was begun for it. It has ended when its response is over *and* its handler has settled:
 * the socket alone tells nothing, a client may leave in the middle of a transaction.
 */
export class Exchange {
  readonly raw: IncomingMessage
  readonly res: ServerResponse
  /** Undefined for `app.inject()`. */
  readonly connection: Connection | undefined
  /** `Clock.now()`. */
  readonly since: number
  /** Its index among the open requests. */
  place = -1
  reply: FastifyReply | undefined = undefined
  /** An upgraded socket (WebSocket): its life is that of the socket, not that of a handler. */
  upgraded = false
  /** The handler has started. */
  begun = false
  /** An asynchronous handler has not settled. */
  running = false
  /** An asynchronous handler has settled. */
  returned = false
  /** The handler's promise is the reply itself, or an error handler took over: only an answer tells that it is done. */
  awaitsAnswer = false
  hijacked = false
  /** Its route is followed itself; what Fastify publishes about it is no news. */
  followed = false
  /** What its handler returned, where its route is not. */
  promise: PromiseLike<unknown> | undefined = undefined
  /** The response is over, sent or not. */
  closed = false
  /** The answer was given to a client that has gone. */
  answered = false
  announcesClose = false
  /** It came on a connection whose close was already announced: it must not be processed (RFC 9112, 9.6). */
  behindClose = false
  refused = false

  constructor (raw: IncomingMessage, res: ServerResponse, connection: Connection | undefined, since: number) {
    this.raw = raw
    this.res = res
    this.connection = connection
    this.since = since
    ;(raw as RawRequest)[kExchange] = this
  }

  get id (): string | null {
    return this.reply === undefined ? null : String(this.reply.request.id)
  }

  get ended (): boolean {
    if (!this.closed || this.running) return false
    if (this.res.writableEnded || this.hijacked || this.upgraded) return true
    if (this.returned && !this.awaitsAnswer) return true
    return this.answered
  }

  /**
   * `Connection: close`, where it can still be said. Node then ends the socket after this reply.
   * HTTP/2 has no such header (RFC 9113, 8.2.2).
   */
  announceClose (): void {
    if (this.res.headersSent || this.raw.httpVersionMajor >= 2) return
    this.res.setHeader('Connection', 'close')
    this.announcesClose = true
  }

  /** @returns whether it could still be withdrawn */
  withdrawClose (): boolean {
    if (!this.announcesClose) return true
    if (this.res.headersSent) return false
    // Not removeHeader(): Node would then leave the header out altogether.
    this.res.setHeader('Connection', 'keep-alive')
    this.announcesClose = false
    return true
  }

  describe (): PendingRequest {
    return {
      id: this.id,
      method: this.raw.method ?? '',
      route: this.reply?.request.routeOptions.url ?? this.raw.url?.split('?', 1)[0] ?? '',
      age: Math.round(performance.now() - this.since),
      phase: !this.begun || this.behindClose ? 'waiting' : this.res.writableEnded && !this.running ? 'response' : 'handler',
      clientGone: this.closed && !this.res.writableEnded
    }
  }
}
