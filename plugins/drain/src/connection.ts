import type { Http2Session } from 'node:http2'
import type { Socket } from 'node:net'
import type { Clock } from './clock.ts'
import type { Carrier, Exchange } from './exchange.ts'
import type { ConnectionEnds } from './report.ts'

/** Bytes a second: below it, one has moved too little. As Kestrel has it, which gives a peer 5 s for it. */
const LEAST_RATE = 240

/** What a socket has moved, to see whether it moves. */
interface Progress {
  bytes: number
  /** performance.now() of the look that saw the last of it. */
  at: number
}

function noProgress (): Progress {
  return { bytes: -1, at: 0 }
}

/** A socket of the app's servers, and what is under way on it. */
export class Connection implements Carrier {
  readonly socket: Socket
  /** Those whose response is not over, in the order of their arrival: with pipelining there are several. */
  readonly open: Exchange[] = []
  session: Http2Session | undefined
  requests = 0
  /** It has been told that it ends, or will be with its next reply. */
  leaving = false
  /** Its last reply was on its way when it should have been told, and did not say that the connection ends. */
  untold = false
  /** It was time to end it at the last look. */
  overdue = false
  endedAs: keyof ConnectionEnds | undefined
  #upgraded = false
  readonly #clock: Clock
  /** Since when it has had nothing to do. */
  #restingSince: number
  /** What the socket had read when it last had nothing to do: more than this, and a head is on its way. */
  #readAtRest: number
  /** The look that saw the first of a head. */
  #partOfHeadSince: number | undefined
  readonly #received = noProgress()
  readonly #trickle = noProgress()
  readonly #sent = noProgress()
  /** Since when something has lain ready for the peer at each look. */
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
   * A protocol of its own has taken the socket over (WebSocket, CONNECT): Node takes its parser away. To be asked while it
   * is open. A listener of ours for `upgrade` would tell, but others count those (@fastify/http-proxy).
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
    // Without pipelining it is the only one.
    if (open.at(-1) === exchange) open.pop()
    else if (open.includes(exchange)) open.splice(open.indexOf(exchange), 1)
    if (open.length > 0) return
    this.#restingSince = this.#clock.now()
    this.#readAtRest = this.socket.bytesRead
    this.untold = this.leaving && !exchange.announcesClose
  }

  inGoodFaith (exchange: Exchange): boolean {
    // It waited to be accepted, was opened in good faith, or had nothing to do, so that no reply could say that it closes.
    return exchange.upgraded || this.requests === 1 || (!this.http2 && this.open.every((other) => other === exchange))
  }

  /** From now on it ends after its last reply, or, with HTTP/2, after the streams that are open. */
  announceClose (): void {
    this.leaving = true
    if (this.session === undefined) this.open.at(-1)?.announceClose()
    else announceGoaway(this.session)
  }

  /** Whether a head has begun to come in since it last had nothing to do. */
  get hasPartOfHead (): boolean {
    return this.socket.bytesRead > this.#readAtRest
  }

  /** For how many ms a head has been coming in, as far as one has looked; 0 where none does. */
  headTakes (now: number): number {
    this.#partOfHeadSince = this.hasPartOfHead ? this.#partOfHeadSince ?? now : undefined
    return now - (this.#partOfHeadSince ?? now)
  }

  /** For how many ms nothing has been on its way, as far as one can tell; 0 where something is. */
  restsFor (now: number): number {
    return this.hasPartOfHead ? 0 : now - this.#restingSince
  }

  /** Since when nothing has come in, ms: how long the body of a request makes its reader wait. */
  receivesNothingFor (now: number): number {
    return stoodStill(this.#received, this.socket.bytesRead, now)
  }

  /** Whether less has come in than the least rate over so many ms makes. */
  receivesTooLittle (now: number, ms: number): boolean {
    return movesTooLittle(this.#trickle, this.socket.bytesRead, now, ms)
  }

  /** Those of which something lies ready for the peer. Each stream of HTTP/2 has a window of its own (RFC 9113, 5.2). */
  get unread (): Exchange[] {
    if (!this.http2 || outgoing(this.socket).waiting) return this.open
    return this.open.filter(({ unread }) => unread)
  }

  /** Whether its peer has taken less of what lies ready for it than the least rate over so many ms makes; never where nothing does. */
  takesTooLittle (now: number, ms: number): boolean {
    const { waiting, taken } = this.#outgoing()
    // What lies ready for the first time starts to wait now.
    if (!waiting) this.#sent.bytes = -1
    return waiting && movesTooLittle(this.#sent, taken, now, ms)
  }

  /** For how many ms something has lain ready for its peer, whatever it took meanwhile; 0 where nothing does. To be asked at each look. */
  unreadFor (now: number): number {
    this.#unreadSince = this.#outgoing().waiting ? this.#unreadSince ?? now : undefined
    return now - (this.#unreadSince ?? now)
  }

  #outgoing (): { waiting: boolean, taken: number } {
    const { waiting, taken } = outgoing(this.socket)
    return { waiting: waiting || (this.http2 && this.unread.length > 0), taken }
  }

  /** Once what is written is out. */
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
      // Sooner, and a client that came in good faith could not even send its first request.
      if (this.requests === 1) announceGoaway(this.session)
      return
    }
    // Only the last reply outstanding may close: after one that has, Node drops those queued behind it.
    const before = this.open.at(-1)
    if (before === undefined || before.withdrawClose()) exchange.announceClose()
    else exchange.waitBehindClose()
  }
}

/** @returns for how many ms nothing has moved */
function stoodStill (progress: Progress, bytes: number, now: number): number {
  if (progress.bytes !== bytes) {
    progress.bytes = bytes
    progress.at = now
  }
  return now - progress.at
}

/** @returns whether less than the least rate has moved for so many ms; a peer that moves a byte now and then stands still as well */
function movesTooLittle (progress: Progress, bytes: number, now: number, ms: number): boolean {
  if (progress.bytes === -1 || bytes - progress.bytes >= LEAST_RATE * ms / 1_000) {
    progress.bytes = bytes
    progress.at = now
  }
  return now - progress.at >= ms
}

/**
 * What a socket still has to send, and what the kernel has taken of the rest. As Node's own socket timeout does, it asks
 * the handle: `bytesWritten` counts what is only queued, too.
 */
function outgoing (socket: Socket): { waiting: boolean, taken: number } {
  const { _handle: handle } = socket as Socket & { _handle?: { bytesWritten?: number, writeQueueSize?: number } | null }
  const queued = handle?.writeQueueSize ?? 0
  return {
    waiting: queued > 0 || socket.writableLength > 0,
    taken: (handle?.bytesWritten ?? 0) - queued
  }
}

/** The first of two GOAWAYs: no streams from now on, but those on their way are served (RFC 9113, 6.8; envoyproxy/envoy#41284). */
function announceGoaway (session: Http2Session): void {
  if (!session.closed && !session.destroyed) session.goaway(0, 2 ** 31 - 1)
}
