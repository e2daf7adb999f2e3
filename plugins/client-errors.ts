import { STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import fp from 'fastify-plugin'
import { noProxy, problemOfClientError } from './errors.ts'
import { answersOwedOn, type LinedSocket } from './pipelining.ts'
import { securityHeaders } from './security-headers.ts'
import type { FastifyInstance } from 'fastify'

const kFailed = Symbol('last-orders.client error')

type ClientError = Error & { code?: string }

/** What this file keeps on a connection. */
type MarkedSocket = LinedSocket & { [kFailed]?: true }

/** Answers CONNECT with a refusal: without a listener, Node hangs up. */
export default fp(async app => {
  app.server.on('connect', (_request, socket) => {
    // Node removes its listeners from this socket, and an error without a listener ends the process.
    socket.on('error', () => {})
    if (socket instanceof Socket) answerClientError.call(app, Object.assign(new Error('CONNECT'), { code: noProxy }), socket)
  })
}, { name: 'client-errors', fastify: '5.x' })

/**
 * Fastify's `clientErrorHandler`: answers bytes that are no request, and requests that come too late. Fastify's own handler
 * writes at once. In a pipeline a client would read that as the answer to an earlier request that is still under way, and a 400
 * says that nothing was stored.
 */
export function answerClientError (this: FastifyInstance, error: ClientError, socket: MarkedSocket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || socket[kFailed] === true) return
  socket[kFailed] = true
  // The client's problem and the log line share this id.
  const id = crypto.randomUUID()
  this.log.debug({ reqId: id, err: error }, 'request refused')
  if (this.hasDecorator('metrics')) this.metrics.countProblem('invalid-request')
  answerInTurn(error, socket, id)
}

function answerInTurn (error: ClientError, socket: MarkedSocket, id: string): void {
  // An incomplete request was not begun: it is the one in error.
  const owed = [...answersOwedOn(socket)].find(answer => answer.req.complete)
  if (owed !== undefined) {
    owed.once('close', () => answerInTurn(error, socket, id))
    return
  }
  if (socket.writable) {
    const { status, body } = problemOfClientError(error.code, id)
    socket.write([
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Connection: close',
      'Content-Type: application/problem+json',
      ...Object.entries(securityHeaders).map(([name, value]) => `${name}: ${value}`),
      `Content-Length: ${Buffer.byteLength(body)}`,
      '',
      body
    ].join('\r\n'))
  }
  socket.destroy()
}
