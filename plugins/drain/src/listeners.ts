import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import { Server as NetServer } from 'node:net'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { Connections } from './connections.ts'
import { symbolProperty } from './symbol-property.ts'
import { now, turn } from './timers.ts'

/** Under a storm of connections there may be no turn that accepts nothing: after this long, no new connection is let into the queue … */
const longestQueueMs = 50
/** … and the listener closes after this long. */
const longestAcceptMs = 500

/** The servers of the app: one, and one for each other address of `localhost`. */
export class Listeners {
  readonly #app: FastifyInstance
  readonly #connections: Connections
  readonly #servers = new Set<NetServer>()

  constructor (app: FastifyInstance, connections: Connections) {
    this.#app = app
    this.#connections = connections
  }

  /** Must be called again when the app listens, because its secondary servers exist only then. */
  watch (): void {
    for (const server of [this.#app.server, ...secondaryServers(this.#app)]) this.#watch(server)
  }

  get listening (): boolean {
    return this.#app.server.listening
  }

  /**
   * Closing a listener resets the connections in its accept queue. So the server first accepts what waits, then closes the
   * queue to new connections, and closes the listener in a turn of the loop that accepted nothing.
   */
  async stopAccepting (): Promise<void> {
    this.watch()
    const listening = [...this.#servers].filter(server => server.listening)
    if (listening.length === 0) return
    // With a backlog of 0 and a connection in the queue, the kernel also drops a handshake that lacks only its last packet.
    await this.#untilNobodyComes(longestQueueMs)
    for (const server of listening) letNoMoreIn(server)
    await this.#untilNobodyComes(longestAcceptMs)
    // server.close() would also end connections between two requests, and make Fastify's routes answer 503.
    for (const server of listening) if (server.listening) NetServer.prototype.close.call(server)
  }

  /**
   * Fastify looks the other addresses of `localhost` up while it listens on the first, and then reads the address of that
   * listener without a check that it still has one.
   */
  keepAddress (): void {
    const { server } = this.#app
    const address = server.address()
    if (address !== null) server.address = () => address
  }

  /**
   * Calls a `close()` that a plugin has put over the server's now, and not only in `app.close()`: @fastify/http-proxy ends
   * its WebSockets there.
   */
  endUpgraded (): void {
    for (const server of this.#servers) {
      if (!Object.hasOwn(server, 'close')) continue
      const http = server as HttpServer
      const { closeIdleConnections } = http
      // Node must not end connections that it takes for idle.
      http.closeIdleConnections = () => {}
      http.close(() => { http.closeIdleConnections = closeIdleConnections })
    }
  }

  /** Resolves in a turn of the loop that accepted nothing. */
  async #untilNobodyComes (longest: number): Promise<void> {
    const until = now() + longest
    let seen
    do {
      seen = this.#connections.accepted
      // setImmediate comes right after the phase of the loop that accepts.
      await turn()
    } while (this.#connections.accepted !== seen && now() < until)
  }

  #watch (server: NetServer): void {
    if (!this.#servers.has(server)) {
      this.#servers.add(server)
      this.#watchConnections(server)
      server.prependListener('request', (raw: IncomingMessage, res: ServerResponse) => this.#connections.arrived(raw, res))
      server.prependListener('session', (session: Http2Session) => this.#connections.sessionStarted(session))
    }
  }

  #watchConnections (server: NetServer): void {
    if (server instanceof TlsServer) {
      server.prependListener('connection', (socket: Socket) => {
        this.#connections.accepted++
        this.#connections.handshaking(socket)
      })
      server.prependListener('secureConnection', (socket: Socket) => this.#connections.secured(socket))
    } else {
      server.prependListener('connection', (socket: Socket) => {
        this.#connections.accepted++
        this.#connections.opened(socket)
      })
    }
  }
}

/**
 * Listens once more with a backlog of 0. The kernel keeps what is in the accept queue, and drops what would join it. A
 * dropped client tries again a second later and is then refused: it knows that nothing began, which a reset would not tell.
 * Clients that reconnect at once can then no longer keep the queue filled. (listen(2). A handle that is shared with other
 * processes, as in a cluster, has a `listen` that does nothing.)
 */
function letNoMoreIn (server: NetServer): void {
  const { _handle: handle } = server as NetServer & { _handle?: { listen?: (backlog: number) => number } | null }
  handle?.listen?.(0)
}

/**
 * Private to Fastify, whose close() does not wait for them, and found by the name of the symbol. If it is renamed,
 * `app.close()` closes them, as without this plugin.
 */
function secondaryServers (app: FastifyInstance): HttpServer[] {
  return symbolProperty(app, 'fastify.serverBindings') as HttpServer[] | undefined ?? []
}
