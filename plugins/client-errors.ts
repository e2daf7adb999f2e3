import { STATUS_CODES, type ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import fp from 'fastify-plugin'
import { noProxy, problemOfClientError } from './errors.ts'
import { securityHeaders } from './security-headers.ts'
import type { FastifyInstance } from 'fastify'

const kOwed = Symbol('last-orders.answers owed')
const kFailed = Symbol('last-orders.client error')

type ClientError = Error & { code?: string }

/** What this file keeps on a connection. */
type MarkedSocket = Socket & {
  /** The answers it is owed, each for a request whose head has come. */
  [kOwed]?: Set<ServerResponse>
  [kFailed]?: true
}

/** Keeps count of the answers owed, for `answerClientError`, and refuses to be a proxy: without a listener, Node hangs up. */
export default fp(async app => {
  app.server.on('connect', (_request, socket) => {
    // Node has let go of it.
    socket.on('error', () => {})
    if (socket instanceof Socket) answerClientError.call(app, Object.assign(new Error('CONNECT'), { code: noProxy }), socket)
  })

  app.addHook('onRequest', (request, reply, done) => {
    const socket: MarkedSocket = request.raw.socket
    const owed = socket[kOwed] ??= new Set()
    owed.add(reply.raw)
    reply.raw.on('close', () => owed.delete(reply.raw))
    done()
  })
}, { name: 'client-errors', fastify: '5.x' })

/**
 * Fastify's `clientErrorHandler`: answers what is no request, or not in time. Fastify's own writes at once: into a pipeline, that
 * would be read as the answer to the request before, which may be under way, and a 400 says that nothing was stored.
 */
export function answerClientError (this: FastifyInstance, error: ClientError, socket: MarkedSocket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || socket[kFailed] === true) return
  socket[kFailed] = true
  // Every problem names what the log has of it.
  const id = crypto.randomUUID()
  this.log.debug({ reqId: id, err: error }, 'request refused')
  if (this.hasDecorator('metrics')) this.metrics.countProblem('invalid-request')
  answerInTurn(error, socket, id)
}

function answerInTurn (error: ClientError, socket: MarkedSocket, id: string): void {
  // One whose request is not whole was not begun, and is the one in error.
  const owed = [...socket[kOwed] ?? []].find(answer => answer.req.complete)
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
