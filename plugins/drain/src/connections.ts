import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session, Http2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { Clock } from './clock.ts'
import { Connection } from './connection.ts'
import type { Exchange } from './exchange.ts'
import type { ConnectionEnds } from './report.ts'
import type { Requests } from './requests.ts'
import { setTimeout } from './timers.ts'

/** Every socket of the app's servers, used or not: Node's own list leaves out those that never sent a byte. */
export class Connections {
  readonly closed: ConnectionEnds = { normally: 0, idle: 0, unused: 0, incomplete: 0, stalled: 0, upgraded: 0, aborted: 0 }
  /** A count, which shows in which turns of the loop nothing was accepted. */
  accepted = 0
  readonly #clock: Clock
  readonly #requests: Requests
  readonly #changed: () => void
  readonly #open = new Map<Socket, Connection>()
  readonly #handshaking = new Set<Socket>()
  readonly #sessions = new WeakMap<Http2Session, Connection>()
  #latest: Connection | undefined
  #announcing = false
  #closing = false

  constructor (clock: Clock, requests: Requests, changed: () => void) {
    this.#clock = clock
    this.#requests = requests
    this.#changed = changed
  }

  get size (): number {
    return this.#open.size + this.#handshaking.size
  }

  [Symbol.iterator] (): IterableIterator<Connection> {
    return this.#open.values()
  }

  /** A connection has been accepted. */
  opened (socket: Socket): Connection {
    const connection = new Connection(socket, this.#clock)
    connection.leaving = this.#announcing
    this.#open.set(socket, connection)
    this.#latest = connection
    socket.once('close', () => this.#lost(connection))
    return connection
  }

  /** A connection has been accepted whose TLS handshake is still under way. */
  handshaking (socket: Socket): void {
    this.#handshaking.add(socket)
    socket.once('close', () => {
      if (this.#handshaking.delete(socket)) this.#changed()
    })
  }

  secured (socket: Socket): void {
    const raw = rawSocketOf(socket)
    if (raw !== undefined) this.#handshaking.delete(raw)
    this.opened(socket)
  }

  /** The session's socket hides behind a proxy, but Node starts a session in the same call that announces the connection. */
  sessionStarted (session: Http2Session): void {
    if (this.#latest === undefined) return
    this.#latest.session = session
    this.#sessions.set(session, this.#latest)
  }

  get someUpgraded (): boolean {
    return [...this.#open.values()].some(({ upgraded }) => upgraded)
  }

  arrived (raw: IncomingMessage, res: ServerResponse): void {
    const connection = this.#connectionOf(raw)
    const exchange = this.#requests.open(raw, res, connection)
    connection?.arrived(exchange)
  }

  /** A request that no server announced: an upgrade, or one by app.inject(). */
  appeared (raw: IncomingMessage, res: ServerResponse): Exchange {
    const connection = this.#open.get(raw.socket)
    const exchange = this.#requests.open(raw, res, connection)
    if (connection !== undefined) {
      exchange.upgrade()
      connection.open.push(exchange)
    } else if (raw.headers.upgrade !== undefined) {
      // By @fastify/websocket's `injectWS()`: there is no socket of ours, so nothing else tells that it is over.
      exchange.upgrade(() => this.#requests.responseOver(exchange))
      // Node 20 emits no `finish` on a response that is written to a custom stream.
      res.on('prefinish', () => this.#requests.responseOver(exchange))
    }
    return exchange
  }

  /** Handshakes that are under way have to end with the connections. */
  endHandshakes (): void {
    for (const socket of this.#handshaking) socket.destroy()
  }

  /**
   * From now on the last reply of each HTTP/1 connection announces its close. Each HTTP/2 session gets GOAWAY at once.
   *
   * @param within ms: the connections that are open now are told at a random moment of this time
   */
  announceClose (within: number): void {
    this.#announcing = true
    for (const connection of this.#open.values()) {
      if (within === 0) connection.announceClose()
      else setTimeout(() => connection.announceClose(), Math.random() * within).unref()
    }
  }

  /** Nothing is accepted any more. */
  startClosing (): void {
    this.#closing = true
    for (const connection of this.#open.values()) if (!connection.leaving) connection.announceClose()
  }

  /** Cuts every connection, at the deadline. */
  abort (): void {
    for (const connection of this.#open.values()) connection.cut('aborted')
    this.endHandshakes()
  }

  #lost (connection: Connection): void {
    this.#open.delete(connection.socket)
    // Its socket holds the last response, and would keep it from being collected.
    if (this.#latest === connection) this.#latest = undefined
    // A WebSocket that got its close frame closes by itself.
    if (this.#announcing) this.closed[connection.endedAs ?? (connection.upgraded && this.#closing ? 'upgraded' : 'normally')]++
    // Node emits `close` on the response being written, but not on all responses queued behind it.
    for (const exchange of [...connection.open]) this.#requests.responseOver(exchange)
    this.#changed()
  }

  #connectionOf (raw: IncomingMessage): Connection | undefined {
    if (raw.httpVersionMajor < 2) return this.#open.get(raw.socket) ?? this.opened(raw.socket)
    const { session } = (raw as IncomingMessage & { stream: Http2Stream }).stream
    return session === undefined ? undefined : this.#sessions.get(session)
  }
}

/** A private property of Node. Without it, the raw socket would count as one whose handshake never ends. */
function rawSocketOf (socket: Socket): Socket | undefined {
  return (socket as Socket & { _parent?: Socket | null })._parent ?? undefined
}
