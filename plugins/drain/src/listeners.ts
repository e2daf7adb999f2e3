import type { Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http'
import type { Http2Session } from 'node:http2'
import { Server as NetServer } from 'node:net'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import type { Connections } from './connections.ts'
import { symbolProperty } from './symbol-property.ts'
import { now, turn } from './timers.ts'

/** Under a storm of connections there may be no turn that accepts nothing: then nobody is let in any more after this long … */
const LONGEST_QUEUE_MS = 50
/** … and the listener closes after this long. */
const LONGEST_ACCEPT_MS = 500

/** The servers of the app: one, and for `localhost` one for each of its other addresses. */
export class Listeners {
  readonly #app: FastifyInstance
  readonly #connections: Connections
  readonly #servers = new Set<NetServer>()

  constructor (app: FastifyInstance, connections: Connections) {
    this.#app = app
    this.#connections = connections
  }

  /** To be called again when the app listens: its secondary servers exist only then. */
  watch (): void {
    for (const server of [this.#app.server, ...secondaryServers(this.#app)]) this.#watch(server)
  }

  get listening (): boolean {
    return this.#app.server.listening
  }

  /**
   * Closing a listener resets what the kernel has connected and nobody has accepted. So what waits is let in, then no
   * more, and the listener closes in a turn of the loop that accepted nothing.
   */
  async stopAccepting (): Promise<void> {
    this.watch()
    const listening = [...this.#servers].filter((server) => server.listening)
    if (listening.length === 0) return
    // With a queue of none the kernel also drops a handshake of which only the last packet is missing, if anybody waits.
    await this.#untilNobodyComes(LONGEST_QUEUE_MS)
    for (const server of listening) letNoMoreIn(server)
    await this.#untilNobodyComes(LONGEST_ACCEPT_MS)
    // Not server.close(): that also ends connections between two requests, and makes Fastify's routes answer 503.
    for (const server of listening) if (server.listening) NetServer.prototype.close.call(server)
  }

  /**
   * Fastify looks the other addresses of `localhost` up while it listens on the first, and then asks for that one: it
   * takes for granted that there is one.
   */
  keepAddress (): void {
    const { server } = this.#app
    const address = server.address()
    if (address !== null) server.address = () => address
  }

  /**
   * Where somebody has put a `close()` of their own over a server's, it is called now, and not only by `app.close()`:
   * @fastify/http-proxy ends its WebSockets there.
   */
  endUpgraded (): void {
    for (const server of this.#servers) {
      if (!Object.hasOwn(server, 'close')) continue
      const http = server as HttpServer
      const { closeIdleConnections } = http
      // Which of them are idle is not for Node to say.
      http.closeIdleConnections = () => {}
      http.close(() => { http.closeIdleConnections = closeIdleConnections })
    }
  }

  /** Resolves in a turn of the loop that has accepted nothing. */
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
 * Listening once more, with a backlog of none, keeps what is in the accept queue and has the kernel drop what would join it.
 * A client that is dropped tries again a second later and is then refused: it knows that nothing was begun, as after a reset
 * it would not. Clients that reconnect at once can so no longer keep the queue from getting empty. (listen(2); a handle that is shared
 * with other processes, as in a cluster, has a `listen` that does nothing.)
 */
function letNoMoreIn (server: NetServer): void {
  const { _handle: handle } = server as NetServer & { _handle?: { listen?: (backlog: number) => number } | null }
  handle?.listen?.(0)
}

/**
 * Fastify keeps them to itself, and its close() does not wait for them; found by the name of the symbol.
 * Should it be renamed, they are left to `app.close()`, as they are without this plugin.
 */
function secondaryServers (app: FastifyInstance): HttpServer[] {
  return symbolProperty(app, 'fastify.serverBindings') as HttpServer[] | undefined ?? []
}
