import { STATUS_CODES } from 'node:http'
import fp from 'fastify-plugin'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { failureOf, isDatabaseFailure } from '../commit/failure.ts'

/**
 * Every kind of refusal: its status, and what it means to the client. The key is the end of the problem's `type` (RFC 9457).
 * Both are part of the API and must not change.
 */
export const problems = {
  'idempotency-key-missing': { status: 400, title: 'An Idempotency-Key is required' },
  'invalid-request': { status: 400, title: 'The request is not valid' },
  unauthenticated: { status: 401, title: 'A valid token is required' },
  'signature-invalid': { status: 401, title: 'A valid signature is required' },
  'payment-declined': { status: 402, title: 'The payment was declined' },
  forbidden: { status: 403, title: 'The token does not allow this' },
  'customer-suspended': { status: 403, title: 'The customer may not order' },
  'customer-unknown': { status: 403, title: 'There is no such customer' },
  'not-found': { status: 404, title: 'There is no such thing' },
  'out-of-stock': { status: 409, title: 'Not enough is in stock' },
  'price-changed': { status: 409, title: 'It costs something else now' },
  'transition-not-allowed': { status: 409, title: 'The order cannot go there from its state' },
  'payment-under-way': { status: 409, title: 'A payment of the order is under way' },
  'not-refundable': { status: 409, title: 'So much cannot be given back' },
  'not-returnable': { status: 409, title: 'So much of it cannot come back' },
  'too-many-webhooks': { status: 409, title: 'There are as many webhooks as one customer may have' },
  'event-not-dead': { status: 409, title: 'The event is not dead' },
  'version-mismatch': { status: 412, title: 'It is at another version' },
  'precondition-required': { status: 428, title: 'The version that it replaces is required' },
  'idempotency-key-reused': { status: 422, title: 'The Idempotency-Key was used for another request' },
  'unknown-product': { status: 422, title: 'There is no such product' },
  'rate-limited': { status: 429, title: 'Too many requests' },
  'internal-error': { status: 500, title: 'The service failed' },
  'not-started': { status: 503, title: 'Not started: nothing was stored' },
  'outcome-unknown': { status: 503, title: 'The outcome is unknown' }
} as const
export type ProblemType = keyof typeof problems

export interface ProblemOptions {
  /** Replaces the type's own status if HTTP has a more exact one (413, 415). */
  status?: number
  headers?: Record<string, string>
  /** Further members of the problem. */
  extra?: Record<string, unknown>
}

/** Thrown by hooks and handlers; answered as application/problem+json. */
export class Problem extends Error {
  readonly type: ProblemType
  readonly statusCode: number
  readonly headers: Record<string, string>
  readonly extra: Record<string, unknown>

  constructor (type: ProblemType, detail: string, options: ProblemOptions = {}) {
    super(detail)
    this.name = 'Problem'
    this.type = type
    this.statusCode = options.status ?? problems[type].status
    this.headers = options.headers ?? {}
    this.extra = options.extra ?? {}
  }
}

/** Nothing was begun, so the client may send the same request again. */
export function notStarted (detail: string, retryAfterS = 1): Problem {
  return new Problem('not-started', `${detail} Nothing was stored; the same request may be sent again.`, { headers: { 'retry-after': String(retryAfterS) } })
}

/** @param settledBy how the client learns the outcome, as a sentence */
export function outcomeUnknown (settledBy: string): Problem {
  return new Problem('outcome-unknown', `The database did not say in time whether this was stored. ${settledBy}`, { headers: { 'retry-after': '1' } })
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The problem that answered it, if any. */
    problem?: ProblemType
  }
}

export function send (reply: FastifyReply, problem: Problem): FastifyReply {
  reply.request.problem = problem.type
  return reply.code(problem.statusCode).headers(problem.headers).type('application/problem+json').serializer(JSON.stringify).send({
    ...membersOf(problem),
    instance: reply.request.id,
    ...problem.extra
  })
}

/** Turns every failure into a problem. Details that are not for clients go only to the log. */
export default fp(async app => {
  app.decorateRequest('problem')
  app.setErrorHandler(answerError)
  app.setNotFoundHandler((request, reply) => send(reply, new Problem('not-found', `Nothing answers ${request.method} ${request.url.split('?')[0] ?? ''}.`)))
}, { name: 'errors', fastify: '5.x' })

/** Also for Fastify's `frameworkErrors`: a URL that cannot be decoded reaches no error handler. */
export function answerError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem = problemOf(error, request)
  if (problem.statusCode >= 500 && !(error instanceof Problem)) request.log.error({ err: error }, 'request failed')
  else request.log.debug({ err: error }, 'request refused')
  return send(reply, problem)
}

/** Our own code of a client error: the client sent CONNECT. */
export const noProxy = 'LAST_ORDERS_NO_PROXY'

/** For bytes that are no request: no route answers them. */
export function problemOfClientError (code: string | undefined, id: string): { status: number, body: string } {
  const [status, detail] = code === 'ERR_HTTP_REQUEST_TIMEOUT'
    ? [408, 'The request did not come in time.']
    : code === 'HPE_HEADER_OVERFLOW' ? [431, 'The head of the request is too large.'] : [400, code === noProxy ? 'This service is not a proxy.' : 'This is not HTTP.']
  return { status, body: JSON.stringify({ ...membersOf(new Problem('invalid-request', `${detail} Nothing was stored.`, { status })), instance: id }) }
}

/** The bytes of an answer, for a connection that has no request; it closes afterwards. */
export function textOf (problem: Problem, id: string): string {
  const body = JSON.stringify({ ...membersOf(problem), instance: id })
  return [
    `HTTP/1.1 ${problem.statusCode} ${STATUS_CODES[problem.statusCode]}`,
    ...Object.entries(problem.headers).map(([name, value]) => `${name}: ${value}`),
    'Connection: close',
    'Content-Type: application/problem+json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body
  ].join('\r\n')
}

function membersOf (problem: Problem) {
  return { type: typeOf(problem.type), title: problems[problem.type].title, status: problem.statusCode, detail: problem.message }
}

/** The problem's `type` on the wire. */
export function typeOf (type: ProblemType): string {
  return `/problems/${type}`
}

function problemOf (error: FastifyError, request: FastifyRequest): Problem {
  if (error instanceof Problem) return error
  if (isDatabaseFailure(error)) return databaseProblem(error, request)
  if (error.validation !== undefined) {
    const errors = error.validation.map(({ instancePath, message, params }) => ({
      in: error.validationContext ?? 'request',
      // For an additional property Ajv names the object, without the property.
      path: typeof params.additionalProperty === 'string' ? `${instancePath}/${params.additionalProperty}` : instancePath,
      message: message ?? 'is not valid'
    }))
    return new Problem('invalid-request', `${error.message}. Nothing was stored.`, { extra: { errors } })
  }
  const status = error.statusCode ?? 500
  if (status === 503) return notStarted(error.message)
  if (status >= 400 && status < 500) return new Problem('invalid-request', `${error.message}. Nothing was stored.`, { status })
  return new Problem('internal-error', `The service failed. Its log has the reason under the id ${request.id}.`)
}

/** A failed read is never an unknown outcome: it changes nothing. */
function databaseProblem (error: unknown, request: FastifyRequest): Problem {
  const failure = failureOf(error)
  if (failure === 'poisoned') return new Problem('invalid-request', 'The database refused the data. Nothing was stored.')
  if (failure !== 'unknown' || request.method === 'GET' || request.method === 'HEAD') return notStarted('The database did not take the request.')
  return outcomeUnknown('The same request may be sent again.')
}
