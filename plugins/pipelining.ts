import fp from 'fastify-plugin'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests of one HTTP/1 connection under way at once, at most. */
const underWayMax = 16

const kLine = Symbol('last-orders.line')

/** A connection, and what is kept of it here. */
export type LinedSocket = Socket & { [kLine]?: Line }

/** The requests of one connection, in the order in which they came: the answers go out in that order (RFC 9112, section 9.3.2). */
class Line {
  /** Each for a request whose head has come. */
  readonly owed = new Set<ServerResponse>()
  /** They have come and wait, unbegun. */
  readonly #held: Array<{ answer: ServerResponse, begin: () => void }> = []
  readonly #socket: Socket
  readonly #isClosing: () => boolean

  constructor (socket: Socket, isClosing: () => boolean) {
    this.#socket = socket
    this.#isClosing = isClosing
    socket.on('close', () => this.#end())
    // Node goes on reading by itself, as when the body of an earlier request is read to its end.
    socket.on('resume', () => { if (this.#held.length > 0) socket.pause() })
  }

  add (answer: ServerResponse, begin: () => void): void {
    this.owed.add(answer)
    answer.on('close', () => {
      this.owed.delete(answer)
      if (this.#held.length > 0) this.beginNext()
    })
    if (this.#hasRoom(this.owed.size - 1)) return begin()
    this.#held.push({ answer, begin })
    this.#socket.pause()
  }

  beginNext (): void {
    while (this.#held.length > 0 && this.#hasRoom(this.owed.size - this.#held.length)) this.#held.shift()?.begin()
    if (this.#held.length === 0) this.#socket.resume()
  }

  /** In a stop none is held: the drain answers what has not begun with "not started". */
  #hasRoom (underWay: number): boolean {
    return underWay < underWayMax || this.#isClosing()
  }

  /** The connection has gone. Node tells that to the answer that was being written alone, and not to those behind it. */
  #end (): void {
    // Ended, so that nobody waits for their answers.
    for (const { answer } of this.#held.splice(0)) answer.end()
    for (const answer of this.owed) {
      if (answer.socket === null && !answer.writableFinished) Object.assign(answer, { destroyed: true }).emit('close')
    }
  }
}

/**
 * Bounds what one connection has under way: without that, one with thousands of requests in a row has all of them begun. What
 * is above it waits, and the connection is not read meanwhile. Registered before all that begins something for a request.
 */
export default fp(async app => {
  const lines = new Set<Line>()
  const isClosing = (): boolean => app.hasDecorator('drain') && app.drain.state === 'closing'
  app.addHook('onRequest', (request, reply, done) => {
    const socket: LinedSocket = request.raw.socket
    let line = socket[kLine]
    if (line === undefined) {
      const opened = socket[kLine] = line = new Line(socket, isClosing)
      lines.add(opened)
      socket.on('close', () => lines.delete(opened))
    }
    line.add(reply.raw, done)
  })
  app.addHook('onReady', async () => {
    if (app.hasDecorator('drain')) app.drain.on('closing', () => { for (const line of lines) line.beginNext() }, { name: 'refuse what waits in pipelines' })
  })
}, { name: 'pipelining', fastify: '5.x' })

/** The answers that a connection is owed, in their order. */
export function answersOwedOn (socket: LinedSocket): Iterable<ServerResponse> {
  return socket[kLine]?.owed ?? []
}
