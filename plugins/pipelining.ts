import fp from 'fastify-plugin'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Requests of one HTTP/1 connection under way at once, at most. */
const underWayMax = 16

const kLine = Symbol('last-orders.line')

/** A connection with the state that this file keeps on it. */
export type LinedSocket = Socket & { [kLine]?: Line }

/** The requests of one connection, in their order of arrival, which is that of the answers (RFC 9112, section 9.3.2). */
class Line {
  /** One for each request whose head has come. */
  readonly owed = new Set<ServerResponse>()
  /** Requests that wait and are not begun. */
  readonly #held: Array<{ answer: ServerResponse, begin: () => void }> = []
  readonly #socket: Socket

  constructor (socket: Socket) {
    this.#socket = socket
    socket.on('close', () => this.#end())
    // Node resumes reading by itself, for example after the body of an earlier request.
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
    // Ends them, so that nothing waits for these answers.
    for (const { answer } of this.#held.splice(0)) answer.end()
    for (const answer of this.owed) {
      if (answer.socket === null && !answer.writableFinished) Object.assign(answer, { destroyed: true }).emit('close')
    }
  }
}

/**
 * Bounds the requests of one connection under way: without it the server would begin thousands of pipelined requests at once.
 * Further requests wait, and meanwhile nothing is read from the connection. Registered before everything that begins work for a
 * request.
 */
export default fp(async app => {
  app.addHook('onRequest', (request, reply, done) => {
    const socket: LinedSocket = request.raw.socket
    const line = socket[kLine] ??= new Line(socket)
    line.add(reply.raw, done)
  })
}, { name: 'pipelining', fastify: '5.x' })

/** The answers that a connection still has to get, in order. */
export function answersOwedOn (socket: LinedSocket): Iterable<ServerResponse> {
  return socket[kLine]?.owed ?? []
}
