import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Exchange } from './exchange.ts'
import type { Settings } from './options.ts'

type Refusal = Settings['refusal']

/** Whether a request that arrives while closing is started all the same. */
export function admits (exchange: Exchange): boolean {
  const policy = exchange.request?.routeOptions.config.drain
  if (policy !== undefined) return policy === 'serve'
  // A request that another one in flight makes by app.inject() is part of that one.
  return exchange.carrier === undefined || exchange.carrier.inGoodFaith(exchange)
}

/**
 * @fastify/under-pressure asks the route's own `pressureHandler` first; one that does nothing lets the request pass.
 * A stopping instance has promised to answer what reaches it. But under-pressure refuses every request once its health
 * check says that the instance should get no more traffic.
 */
export function exemptFromPressure (request: FastifyRequest): void {
  Object.assign(request.routeOptions.config, { pressureHandler: () => {} })
}

export function refuse (exchange: Exchange, reply: FastifyReply, refusal: Refusal): void {
  exchange.refuse()
  reply.code(503)
    .header('Retry-After', refusal.retryAfter)
    .type('application/problem+json')
    .send(problem(refusal, exchange))
}

/** The same for a request that has not reached its route, or has not arrived in whole. */
export function refuseRaw (exchange: Exchange, refusal: Refusal): void {
  const { res } = exchange
  if (res === undefined || res.headersSent || res.destroyed) return
  exchange.refuse()
  exchange.announceClose()
  const body = problem(refusal, exchange)
  res.writeHead(503, {
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(body),
    'Retry-After': refusal.retryAfter
  })
  res.end(body)
}

function problem ({ type, title }: Refusal, { id }: Exchange): string {
  return JSON.stringify({
    type,
    title,
    status: 503,
    detail: 'The request was not started and nothing was stored. Send it again, on a new connection.',
    // Null before the request has reached its route.
    ...id !== null && { instance: id }
  })
}
