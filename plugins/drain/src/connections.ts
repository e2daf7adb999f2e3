import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session, Http2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { Clock } from './clock.ts'
import type { Exchange } from './exchange.ts'
import type { Requests } from './requests.ts'
import type { ConnectionEnds } from './report.ts'

/** A head or body has this long to become complete, from the moment that nothing more is accepted. */
const INCOMPLETE_MS = 1_000
/** A connection with nothing to do that was answered less than this long ago belongs to a client that may have asked again. */
const ACTIVE_MS = 50
/** A connection younger than this may have its first request on the wire. A TLS handshake has INCOMPLETE_MS. */
const FRESH_MS = 250

export interface Connection {
  readonly socket: Socket
  /** In the order of their arrival: with pipelining there are several. */
  readonly open: Exchange[]
  requests: number
  /** Since when it has had nothing to do. */
  restingSince: number
  /** What the socket had read when it last had nothing to do: more than this, and a head is on its way. */
  readAtRest: number
  /** It was time to end it at the last look. */
  overdue: boolean
  /** What it had read at the last look at an incomplete body, and since when that is so. */
  readAtLook: number
  stalledSince: number
  /** A protocol of its own has taken the socket over (WebSocket, CONNECT). */
  upgraded: boolean
  /** It has been told that it ends, or will be with its next reply. */
  leaving: boolean
  session: Http2Session | undefined
  endedAs: keyof ConnectionEnds | undefined
}

/** Every socket of the app's servers, used or not: Node's own list leaves out those that never sent a byte. */
export class Connections {
  readonly closed: ConnectionEnds = { normally: 0, idle: 0, unused: 0, incomplete: 0, upgraded: 0, aborted: 0 }
  /** For the turns of the loop in which nothing is accepted. */
  accepted = 0
  readonly #clock: Clock
  readonly #requests: Requests
  readonly #refuse: (exchange: Exchange) => void
  readonly #changed: () => void
  readonly #open = new Map<Socket, Connection>()
  /** Before their TLS handshake is done, by the address of the peer: the TLS socket does not name the raw one. */
  readonly #handshaking = new Map<string, Socket>()
  readonly #sessions = new WeakMap<Http2Session, Connection>()
  #latest: Connection | undefined
  #announcing = false
  #closingSince: number | undefined

  constructor (clock: Clock, requests: Requests, refuse: (exchange: Exchange) => void, changed: () => void) {
    this.#clock = clock
    this.#requests = requests
    this.#refuse = refuse
    this.#changed = changed
  }

  get size (): number {
    return this.#open.size + this.#handshaking.size
  }

  /** A connection has been accepted. */
  opened (socket: Socket): Connection {
    const connection: Connection = {
      socket,
      open: [],
      requests: 0,
      restingSince: this.#clock.now(),
      readAtRest: socket.bytesRead,
      overdue: false,
      readAtLook: -1,
      stalledSince: 0,
      upgraded: false,
      leaving: this.#announcing,
      session: undefined,
      endedAs: undefined
    }
    this.#open.set(socket, connection)
    this.#latest = connection
    socket.once('close', () => this.#lost(connection))
    return connection
  }

  handshaking (socket: Socket): void {
    const peer = peerOf(socket)
    this.#handshaking.set(peer, socket)
    socket.once('close', () => {
      if (this.#handshaking.get(peer) === socket) this.#handshaking.delete(peer)
      this.#changed()
    })
  }

  secured (socket: Socket): void {
    this.#handshaking.delete(peerOf(socket))
    this.opened(socket)
  }

  /** Its socket hides behind a proxy; but Node starts a session in the same call that announces the connection. */
  sessionStarted (session: Http2Session): void {
    if (this.#latest === undefined) return
    this.#latest.session = session
    this.#sessions.set(session, this.#latest)
  }

  upgraded (socket: Socket): void {
    const connection = this.#open.get(socket)
    if (connection !== undefined) connection.upgraded = true
  }

  arrived (raw: IncomingMessage, res: ServerResponse): void {
    const connection = this.#connectionOf(raw)
    const exchange = this.#requests.open(raw, res, connection)
    if (connection === undefined) return
    connection.requests++
    connection.overdue = false
    if (connection.leaving) this.#announceWith(exchange, connection)
    connection.open.push(exchange)
  }

  /** A request that no server announced: an upgrade, or `app.inject()`. */
  appeared (raw: IncomingMessage, res: ServerResponse): Exchange {
    const connection = this.#open.get(raw.socket)
    const exchange = this.#requests.open(raw, res, connection)
    if (connection !== undefined) {
      exchange.upgraded = connection.upgraded = true
      connection.open.push(exchange)
    }
    return exchange
  }

  /** An exchange of this connection has ended. */
  left (exchange: Exchange): void {
    const connection = exchange.connection
    if (connection === undefined) return
    const { open } = connection
    // Without pipelining it is the only one.
    if (open.at(-1) === exchange) open.pop()
    else if (open.includes(exchange)) open.splice(open.indexOf(exchange), 1)
    if (open.length > 0) return
    connection.restingSince = this.#clock.now()
    connection.readAtRest = connection.socket.bytesRead
  }

  /**
   * From now on each HTTP/1 connection is told with its last reply that it ends, and each HTTP/2 session at once.
   *
   * @param within ms: those that are open now are told at a random moment of this time
   */
  announceClose (within: number): void {
    this.#announcing = true
    for (const connection of this.#open.values()) {
      if (within === 0) announce(connection)
      else setTimeout(announce, Math.random() * within, connection).unref()
    }
  }

  /** Nothing is accepted any more: `sweep()` from now on. */
  startClosing (): void {
    this.#closingSince = performance.now()
    for (const connection of this.#open.values()) if (!connection.leaving) announce(connection)
  }

  /**
   * Ends what has nothing to do, and what does not become complete. Node stopped looking after both when the
   * listener closed: headersTimeout and requestTimeout no longer fire (nodejs/node#63452), and
   * closeIdleConnections() would cut a large answer that is written and not yet flushed.
   *
   * To be called after a turn of the loop has read what there was.
   *
   * @returns whether there is something to end after one more turn
   */
  sweep (): boolean {
    if (this.#closingSince === undefined) return false
    let again = false
    const now = performance.now()
    const late = now - this.#closingSince >= INCOMPLETE_MS
    for (const connection of this.#open.values()) {
      if (connection.upgraded) {
        if (late) this.#cut(connection, 'upgraded')
      } else if (connection.session !== undefined) {
        this.#endSession(connection, connection.session, late)
      } else if (connection.open.length > 0) {
        this.#endIncompleteBody(connection, now, late)
      } else if (late || this.#hasRested(connection, now)) {
        // What came while the loop was busy is still to be read.
        if (connection.overdue) this.#endUnasked(connection)
        else connection.overdue = again = true
      }
    }
    if (!late) return again
    for (const socket of this.#handshaking.values()) socket.destroy()
    // A body that will never be complete may leave its parser waiting for ever.
    for (const exchange of [...this.#requests]) if (exchange.closed && !exchange.begun && !exchange.raw.complete) this.#requests.forgo(exchange)
    return again
  }

  /** At the deadline. */
  abort (): void {
    for (const connection of this.#open.values()) this.#cut(connection, 'aborted')
    for (const socket of this.#handshaking.values()) socket.destroy()
  }

  #lost (connection: Connection): void {
    this.#open.delete(connection.socket)
    // A WebSocket that has been told to go closes by itself.
    if (this.#announcing) this.closed[connection.endedAs ?? (connection.upgraded && this.#closingSince !== undefined ? 'upgraded' : 'normally')]++
    // Node announces it on the response that was being written, not on all of those queued behind.
    for (const exchange of [...connection.open]) this.#requests.closed(exchange)
    this.#changed()
  }

  #announceWith (exchange: Exchange, { session, requests, open }: Connection): void {
    if (session !== undefined) {
      // Sooner, and a client that came in good faith could not even send its first request.
      if (requests === 1) announceGoaway(session)
      return
    }
    // Only the last reply outstanding may close: after one that has, Node drops those queued behind it.
    const before = open.at(-1)
    if (before === undefined || before.withdrawClose()) exchange.announceClose()
    else exchange.behindClose = true
  }

  /** Nothing is on its way, as far as one can tell. */
  #hasRested ({ socket, readAtRest, requests, restingSince }: Connection, now: number): boolean {
    return socket.bytesRead === readAtRest && now - restingSince >= (requests > 0 ? ACTIVE_MS : FRESH_MS)
  }

  #endUnasked (connection: Connection): void {
    if (connection.socket.bytesRead > connection.readAtRest) this.#endIncompleteHead(connection)
    else this.#end(connection, connection.requests > 0 ? 'idle' : 'unused')
  }

  #endIncompleteHead (connection: Connection): void {
    if (connection.socket.writable) connection.socket.write('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
    this.#end(connection, 'incomplete')
  }

  #endIncompleteBody (connection: Connection, now: number, late: boolean): void {
    const exchange = connection.open.at(-1)
    if (exchange === undefined || exchange.raw.complete) return
    if (!exchange.begun) {
      if (!late) return
      connection.endedAs = 'incomplete'
      this.#refuse(exchange)
      return
    }
    // A handler that reads its body as it comes may finish, as long as something comes; and one that does not read
    // lets the client wait, not the other way round.
    const { bytesRead } = connection.socket
    if (connection.readAtLook !== bytesRead || !waitsForBody(exchange.raw)) {
      connection.readAtLook = bytesRead
      connection.stalledSince = now
    } else if (now - connection.stalledSince >= INCOMPLETE_MS) {
      this.#cut(connection, 'incomplete')
    }
  }

  /** GOAWAY: streams that are open finish, and the session closes itself after the last (RFC 9113, 6.8). */
  #endSession (connection: Connection, session: Http2Session, late: boolean): void {
    if (!session.closed) session.close()
    if (late) for (const exchange of [...connection.open]) if (!exchange.begun && !exchange.raw.complete) this.#refuse(exchange)
    if (connection.open.length > 0) return
    if (late) this.#cut(connection, 'idle')
    else connection.endedAs ??= 'idle'
  }

  #end (connection: Connection, as: keyof ConnectionEnds): void {
    connection.endedAs ??= as
    connection.socket.destroySoon()
  }

  #cut (connection: Connection, as: keyof ConnectionEnds): void {
    connection.endedAs ??= as
    connection.session?.destroy()
    connection.socket.destroy()
  }

  #connectionOf (raw: IncomingMessage): Connection | undefined {
    if (raw.httpVersionMajor < 2) return this.#open.get(raw.socket) ?? this.opened(raw.socket)
    const { session } = (raw as IncomingMessage & { stream: Http2Stream }).stream
    return session === undefined ? undefined : this.#sessions.get(session)
  }
}

function waitsForBody (raw: IncomingMessage): boolean {
  return raw.readableLength === 0 && raw.listenerCount('data') + raw.listenerCount('readable') > 0
}

function announce (connection: Connection): void {
  connection.leaving = true
  if (connection.session === undefined) connection.open.at(-1)?.announceClose()
  else announceGoaway(connection.session)
}

/** The first of two GOAWAYs: no streams from now on, but those on their way are served (RFC 9113, 6.8; envoyproxy/envoy#41284). */
function announceGoaway (session: Http2Session): void {
  if (!session.closed && !session.destroyed) session.goaway(0, 2 ** 31 - 1)
}

function peerOf (socket: Socket): string {
  return `${socket.remoteAddress ?? ''}:${socket.remotePort ?? ''}`
}
