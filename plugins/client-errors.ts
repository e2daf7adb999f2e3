import { STATUS_CODES, type ServerResponse } from 'node:http'
import fp from 'fastify-plugin'
import { problemOfClientError } from './errors.ts'
import type { Socket } from 'node:net'

/** The answers that a connection is owed, each for a request whose head has come. By the socket: apps have none in common. */
const answersOn = new WeakMap<Socket, Set<ServerResponse>>()
const failed = new WeakSet<Socket>()

/** Keeps count of the answers owed, for `answerClientError`. */
export default fp(async app => {
  app.addHook('onRequest', (request, reply, done) => {
    const { socket } = request.raw
    const answers = answersOn.get(socket) ?? new Set()
    answersOn.set(socket, answers.add(reply.raw))
    reply.raw.once('close', () => answers.delete(reply.raw))
    done()
  })
}, { name: 'client-errors', fastify: '5.x' })

/**
 * Fastify's `clientErrorHandler`: answers what is no request, or not in time. Fastify's own writes at once: into a pipeline, that
 * would be read as the answer to the request before, which may be under way, and a 400 says that nothing was stored.
 */
export function answerClientError (error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || failed.has(socket)) return
  failed.add(socket)
  answerInTurn(error, socket)
}

function answerInTurn (error: Error & { code?: string }, socket: Socket): void {
  // One whose request is not whole was not begun, and is the one in error.
  const owed = [...answersOn.get(socket) ?? []].find(answer => answer.req.complete)
  if (owed !== undefined) {
    owed.once('close', () => answerInTurn(error, socket))
    return
  }
  if (socket.writable) {
    const { status, body } = problemOfClientError(error.code)
    socket.write([
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Connection: close',
      'Content-Type: application/problem+json',
      `Content-Length: ${Buffer.byteLength(body)}`,
      '',
      body
    ].join('\r\n'))
  }
  socket.destroy()
}
