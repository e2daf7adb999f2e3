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

  constructor (socket: Socket) {
    this.#socket = socket
    socket.on('close', () => this.#end())
    // Node goes on reading by itself, as when the body of an earlier request is read to its end.
    socket.on('resume', () => { if (this.#held.length > 0) socket.pause() })
  }

  add (answer: ServerResponse, begin: () => void): void {
    this.owed.add(answer)
    answer.on('close', () => {
      this.owed.delete(answer)
      if (this.#held.length > 0) this.#beginNext()
    })
    if (this.owed.size <= underWayMax) return begin()
    this.#held.push({ answer, begin })
    this.#socket.pause()
  }

  #beginNext (): void {
    while (this.#held.length > 0 && this.owed.size - this.#held.length < underWayMax) this.#held.shift()?.begin()
    if (this.#held.length === 0) this.#socket.resume()
  }

  /** The connection has gone. Node 22 tells that only to the answer that was being written; Node 24 tells all of them. */
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
  app.addHook('onRequest', (request, reply, done) => {
    const socket: LinedSocket = request.raw.socket
    const line = socket[kLine] ??= new Line(socket)
    line.add(reply.raw, done)
  })
}, { name: 'pipelining', fastify: '5.x' })

/** The answers that a connection is owed, in their order. */
export function answersOwedOn (socket: LinedSocket): Iterable<ServerResponse> {
  return socket[kLine]?.owed ?? []
}
