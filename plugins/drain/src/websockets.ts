import type { FastifyInstance } from 'fastify'

/** RFC 6455, 7.4.1: the endpoint is going away. */
const goingAway = 1001
/** `WebSocket.OPEN` */
const open = 1

/** The part of a `ws` server that is needed; the package depends on neither `ws` nor @fastify/websocket. */
interface WebSocketServer {
  /** Missing with `clientTracking: false`. */
  readonly clients?: Iterable<{ readonly readyState: number, close: (code: number, reason: string) => void }>
}

/** The servers of @fastify/websocket, which decorates the instance that it is registered on. */
export class WebSockets {
  readonly #instances: FastifyInstance[]

  constructor (app: FastifyInstance) {
    this.#instances = [app]
    app.addHook('onRegister', instance => { this.#instances.push(instance) })
  }

  /** Sends a close frame to every client that is still connected. */
  close (): void {
    for (const server of this.#servers()) {
      for (const client of server.clients ?? []) if (client.readyState === open) client.close(goingAway, 'the service is stopping')
    }
  }

  #servers (): Set<WebSocketServer> {
    const servers = new Set<WebSocketServer>()
    for (const instance of this.#instances) {
      const { websocketServer } = instance as FastifyInstance & { websocketServer?: WebSocketServer }
      if (websocketServer !== undefined) servers.add(websocketServer)
    }
    return servers
  }
}
