import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'

const request = Buffer.from('GET /orders/1 HTTP/1.1\r\nHost: localhost\r\n\r\n')

export interface Slice {
  readonly seconds: number
  /** ms, sorted. */
  readonly latencies: Float64Array
}

/**
 * Keep-alive connections, each with one request at a time. It does not parse the answers, so that it is faster than what it
 * measures: all answers have the length of the first, so counting bytes is enough.
 */
export class Load {
  readonly #sockets: Socket[]
  readonly #length: number

  private constructor (sockets: Socket[], length: number) {
    this.#sockets = sockets
    this.#length = length
  }

  static async open (port: number, connections: number): Promise<Load> {
    const sockets = Array.from({ length: connections }, () => connect(port, '127.0.0.1').setNoDelay())
    const [first] = sockets
    if (first === undefined) throw new RangeError('no connections: there is nothing to load with')
    await Promise.all(sockets.map(socket => once(socket, 'connect')))
    first.write(request)
    const [answer] = await once(first, 'data') as [Buffer]
    if (!answer.toString('latin1').startsWith('HTTP/1.1 200 ')) throw new Error(`the server does not serve: ${answer.toString('latin1')}`)
    return new Load(sockets, answer.length)
  }

  async send (requests: number): Promise<Slice> {
    const latencies = new Float64Array(requests)
    const start = performance.now()
    let sent = 0
    let answered = 0
    await Promise.all(this.#sockets.map(socket => new Promise<void>((resolve, reject) => {
      let missing = 0
      let sentAt = 0
      const next = (): void => {
        if (sent === requests) {
          socket.off('data', receive).off('close', lost)
          resolve()
          return
        }
        sent++
        missing = this.#length
        sentAt = performance.now()
        socket.write(request)
      }
      const receive = (data: Buffer): void => {
        missing -= data.length
        if (missing > 0) return
        if (missing < 0) lost()
        latencies[answered++] = performance.now() - sentAt
        next()
      }
      const lost = (): void => reject(new Error('a connection was lost or an answer was longer than the first: this is no measurement'))
      socket.on('data', receive).on('close', lost)
      next()
    })))
    return { seconds: (performance.now() - start) / 1_000, latencies: latencies.sort() }
  }

  close (): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}
