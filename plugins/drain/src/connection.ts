import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { Clock } from './clock.ts'
import type { Carrier, Exchange } from './exchange.ts'
import type { ConnectionEnds } from './report.ts'

/** Bytes a second: a peer below this rate is too slow. Kestrel's figure; it gives a peer 5 s of grace. */
const leastRate = 240

/** The bytes that a socket has moved, to see whether it stands still. */
interface Progress {
  bytes: number
  /** performance.now() of the look that last saw a change. */
  at: number
}

function noProgress (): Progress {
  return { bytes: -1, at: 0 }
}

/** A socket of the app's servers, and the requests on it. */
export class Connection implements Carrier {
  readonly socket: Socket
  /** The requests whose response is not over, in the order of their arrival: with pipelining there are several. */
  readonly open: Exchange[] = []
  session: Http2Session | undefined
  requests = 0
  /** The client has been told that the connection ends, or will be told with the next reply. */
  leaving = false
  /** The last reply could not announce the close: its head had been sent. */
  untold = false
  /** At the last look it was time to end the connection. */
  overdue = false
  endedAs: keyof ConnectionEnds | undefined
  #upgraded = false
  readonly #clock: Clock
  /** Since when the connection is idle. */
  #restingSince: number
  /** The bytes read when the connection last became idle: if there are more, a head is on its way. */
  #readAtRest: number
  /** The look that first saw a part of a head. */
  #partOfHeadSince: number | undefined
  readonly #received = noProgress()
  readonly #trickle = noProgress()
  readonly #sent = noProgress()
  /** Since when every look has found bytes that wait for the peer. */
  #unreadSince: number | undefined

  constructor (socket: Socket, clock: Clock) {
    this.socket = socket
    this.#clock = clock
    this.#restingSince = clock.now()
    this.#readAtRest = socket.bytesRead
  }

  get http2 (): boolean {
    return this.session !== undefined
  }

  /**
   * Another protocol has taken the socket over (WebSocket, CONNECT): Node has removed its parser. Only valid while the
   * socket is open. A listener of ours for `upgrade` would tell too, but other plugins count those (@fastify/http-proxy).
   */
  get upgraded (): boolean {
    const { parser, destroyed } = this.socket as Socket & { parser?: object | null }
    this.#upgraded ||= parser === null && !destroyed && this.session === undefined
    return this.#upgraded
  }

  arrived (exchange: Exchange): void {
    this.requests++
    this.overdue = false
    if (this.leaving) this.#announceWith(exchange)
    this.open.push(exchange)
  }

  left (exchange: Exchange): void {
    const { open } = this
    // Without pipelining this is the only one.
    if (open.at(-1) === exchange) open.pop()
    else if (open.includes(exchange)) open.splice(open.indexOf(exchange), 1)
    if (open.length > 0) return
    this.#restingSince = this.#clock.now()
    this.#readAtRest = this.socket.bytesRead
    this.untold = this.leaving && !exchange.announcesClose
  }

  inGoodFaith (exchange: Exchange): boolean {
    // The connection waited to be accepted, was opened in good faith, or was idle: no reply could announce the close.
    return exchange.upgraded || this.requests === 1 || (!this.http2 && this.open.every(other => other === exchange))
  }

  /** From now on the connection ends after its last reply or, with HTTP/2, after its open streams. */
  announceClose (): void {
    this.leaving = true
    if (this.session === undefined) this.open.at(-1)?.announceClose()
    else announceGoaway(this.session)
  }

  /** Whether a part of a head has arrived since the connection last became idle. */
  get hasPartOfHead (): boolean {
    return this.socket.bytesRead > this.#readAtRest
  }

  /** For how many ms a head has been arriving, by the looks so far; 0 if none is. */
  headTakes (now: number): number {
    this.#partOfHeadSince = this.hasPartOfHead ? this.#partOfHeadSince ?? now : undefined
    return now - (this.#partOfHeadSince ?? now)
  }

  /** For how many ms the connection has been idle; 0 if a part of a head has arrived. */
  restsFor (now: number): number {
    return this.hasPartOfHead ? 0 : now - this.#restingSince
  }

  /** For how many ms nothing has arrived: how long the body of a request keeps its reader waiting. */
  receivesNothingFor (now: number): number {
    return stoodStill(this.#received, this.socket.bytesRead, now)
  }

  /** Whether less has arrived in the last `ms` than the least rate asks for. */
  receivesTooLittle (now: number, ms: number): boolean {
    return movesTooLittle(this.#trickle, this.socket.bytesRead, now, ms)
  }

  /** The requests whose answer waits for the peer. Each HTTP/2 stream has a window of its own (RFC 9113, 5.2). */
  get unread (): Exchange[] {
    if (!this.http2 || outgoing(this.socket).waiting) return this.open
    return this.open.filter(({ unread }) => unread)
  }

  /** Whether the peer has taken less in the last `ms` than the least rate asks for, while bytes waited for it. */
  takesTooLittle (now: number, ms: number): boolean {
    const { waiting, taken } = this.#outgoing()
    // Bytes that wait for the first time start to wait now.
    if (!waiting) this.#sent.bytes = -1
    return waiting && movesTooLittle(this.#sent, taken, now, ms)
  }

  /** For how many ms bytes have waited for the peer, whatever it took meanwhile; 0 if none wait. Must be called at each look. */
  unreadFor (now: number): number {
    this.#unreadSince = this.#outgoing().waiting ? this.#unreadSince ?? now : undefined
    return now - (this.#unreadSince ?? now)
  }

  #outgoing (): { waiting: boolean, taken: number } {
    const { waiting, taken } = outgoing(this.socket)
    return { waiting: waiting || (this.http2 && this.unread.length > 0), taken }
  }

  /** Ends the socket after its written bytes are sent. */
  end (as: keyof ConnectionEnds): void {
    this.endedAs ??= as
    this.socket.destroySoon()
  }

  cut (as: keyof ConnectionEnds): void {
    this.endedAs ??= as
    this.session?.destroy()
    this.socket.destroy()
  }

  #announceWith (exchange: Exchange): void {
    if (this.session !== undefined) {
      // Not earlier: a client that connected in good faith could not even send its first request.
      if (this.requests === 1) announceGoaway(this.session)
      return
    }
    // Only the last outstanding reply may announce the close: Node drops the replies queued behind it.
    const before = this.open.at(-1)
    if (before === undefined || before.withdrawClose()) exchange.announceClose()
    else exchange.waitBehindClose()
  }
}

/** @returns for how many ms no byte has moved */
function stoodStill (progress: Progress, bytes: number, now: number): number {
  if (progress.bytes !== bytes) {
    progress.bytes = bytes
    progress.at = now
  }
  return now - progress.at
}

/** @returns whether the rate has been below the least rate for `ms`, so that a byte now and then does not count as progress */
function movesTooLittle (progress: Progress, bytes: number, now: number, ms: number): boolean {
  if (progress.bytes === -1 || bytes - progress.bytes >= leastRate * ms / 1_000) {
    progress.bytes = bytes
    progress.at = now
  }
  return now - progress.at >= ms
}

/**
 * Whether a socket still has bytes to send, and how many the kernel has taken. Like Node's own socket timeout, it asks the
 * handle: the socket's `bytesWritten` also counts bytes that are only queued.
 */
function outgoing (socket: Socket): { waiting: boolean, taken: number } {
  const { _handle: handle } = socket as Socket & { _handle?: { bytesWritten?: number, writeQueueSize?: number } | null }
  const queued = handle?.writeQueueSize ?? 0
  return {
    waiting: queued > 0 || socket.writableLength > 0,
    taken: (handle?.bytesWritten ?? 0) - queued
  }
}

/** The first of two GOAWAYs: asks for no new streams, and still serves those on their way (RFC 9113, 6.8; envoyproxy/envoy#41284). */
function announceGoaway (session: Http2Session): void {
  if (!session.closed && !session.destroyed) session.goaway(0, 2 ** 31 - 1)
}
