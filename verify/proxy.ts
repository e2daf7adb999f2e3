import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { Transform } from 'node:stream'

/**
 * What the proxy does with bytes. `cut-answers`: the server gets requests, and its answers are dropped. `blackhole`: both
 * directions are dropped. `refuse`: every connection is ended, new ones included.
 */
export type Passing = 'forward' | 'cut-answers' | 'blackhole' | 'refuse'

interface Connection {
  readonly client: Socket
  readonly server: Socket
  /** Whether bytes of the connection were dropped. */
  broken: boolean
}

/** A TCP proxy on a port of 127.0.0.1, in front of a server on another one. */
export class Proxy {
  readonly port: number
  /** How long each chunk waits, in ms, in either direction; later chunks wait behind it. Default 0. */
  latencyMs = 0
  readonly #listener: Server
  readonly #connections = new Set<Connection>()
  #target: number
  #passing: Passing = 'forward'

  private constructor (listener: Server, target: number) {
    this.#listener = listener
    this.#target = target
    this.port = (listener.address() as AddressInfo).port
    listener.on('connection', client => this.#join(client))
  }

  static async listen (target: number): Promise<Proxy> {
    const listener = createServer({ noDelay: true })
    listener.listen(0, '127.0.0.1')
    await once(listener, 'listening')
    return new Proxy(listener, target)
  }

  /** Leads to another server from now on, and ends connections to the previous one. */
  switchTo (target: number): void {
    this.#target = target
    this.disconnectAll()
  }

  /** Connections that lost bytes stay silent until this is called, and are ended then: later bytes would make no sense. */
  pass (passing: Passing): void {
    this.#passing = passing
    for (const connection of this.#connections) {
      if (connection.broken || passing === 'refuse') disconnect(connection)
    }
  }

  /** How many connections have lost bytes since `pass` was called. */
  get broken (): number {
    return this.#connections.values().filter(({ broken }) => broken).toArray().length
  }

  disconnectAll (): void {
    for (const connection of this.#connections) disconnect(connection)
  }

  async close (): Promise<void> {
    this.#listener.close()
    this.disconnectAll()
    await once(this.#listener, 'close')
  }

  #join (client: Socket): void {
    if (this.#passing === 'refuse') {
      client.destroy()
      return
    }
    const server = connect({ port: this.#target, host: '127.0.0.1', noDelay: true })
    const connection: Connection = { client, server, broken: false }
    this.#connections.add(connection)
    const questions = this.#gate(connection, 'questions')
    const answers = this.#gate(connection, 'answers')
    client.pipe(questions).pipe(server)
    server.pipe(answers).pipe(client)
    // A side that has gone reads nothing, and must not delay the end of the other.
    client.once('close', () => answers.resume())
    server.once('close', () => questions.resume())
    for (const socket of [client, server]) {
      socket.on('error', () => disconnect(connection))
      socket.once('close', () => { if (client.closed && server.closed) this.#connections.delete(connection) })
    }
  }

  #gate (connection: Connection, direction: 'questions' | 'answers'): Transform {
    return new Transform({
      transform: (chunk, _encoding, done) => {
        if (this.#passing === 'forward' || (this.#passing === 'cut-answers' && direction === 'questions')) {
          if (this.latencyMs === 0) done(null, chunk)
          else setTimeout(done, this.latencyMs, null, chunk)
          return
        }
        connection.broken = true
        done()
      }
    })
  }
}

/**
 * Not `resetAndDestroy`: it shuts down first. If the other side goes away meanwhile, the reset fails, the handle is never
 * closed, and Node 24 never exits.
 */
function disconnect ({ client, server }: Connection): void {
  client.destroy()
  server.destroy()
}
