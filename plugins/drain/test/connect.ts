import { once } from 'node:events'
import { connect as netConnect } from 'node:net'
import type { Socket } from 'node:net'
import type { Test } from 'tap'

/** A client that sends exactly what it is told, and keeps what it got. */
export class Client {
  readonly socket: Socket
  received = ''
  /** How it ended: `end`, or the code of an error. */
  readonly ended: Promise<string>

  constructor (socket: Socket) {
    this.socket = socket
    this.socket.on('data', (chunk: Buffer) => { this.received += chunk.toString() })
    this.ended = new Promise(resolve => {
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      socket.once('close', () => resolve('end'))
    })
  }

  send (text: string): void {
    this.socket.write(text)
  }

  get (path: string, headers = ''): void {
    this.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`)
  }

  async receives (text: string): Promise<void> {
    while (!this.received.includes(text)) {
      if (this.socket.destroyed) throw new Error(`the connection ended without '${text}': ${this.received}`)
      await Promise.race([once(this.socket, 'data'), this.ended])
    }
  }

  /** The status and the Connection header of each response. */
  get responses (): string[] {
    return this.received.split(/(?=HTTP\/1\.1 )/).filter(text => text !== '').map(text => {
      const connection = /^connection: (.*)\r$/im.exec(text)?.[1] ?? 'none'
      return `${text.slice(9, 12)} ${connection}`
    })
  }
}

export async function connect (t: Test, url: string): Promise<Client> {
  const { hostname, port } = new URL(url)
  const socket = netConnect(Number(port), hostname.replace(/^\[|\]$/g, ''))
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  return new Client(socket)
}
