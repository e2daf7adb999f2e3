import diagnostics from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import type { Requests } from './requests.ts'

/** What Fastify publishes. One object for all events of a request. */
interface HandlerMessage {
  request: FastifyRequest
  reply: FastifyReply
  async: boolean
  error?: unknown
}

const CHANNEL = 'tracing:fastify.request.handler'

/**
 * Follows each handler from its start to its settlement, also when the client has gone and through encapsulation.
 * The channels are process-wide: a request of another app carries no exchange of this one.
 *
 * @returns the end of it
 */
export function followHandlers (app: FastifyInstance, requests: Requests): () => void {
  app.addHook('onRoute', keepPromise)

  function started (message: unknown): void {
    const { request } = message as HandlerMessage
    const exchange = mine(request)
    if (exchange === undefined) return
    exchange.begun = true
  }

  function returned (message: unknown): void {
    const { request, async } = message as HandlerMessage
    const exchange = mine(request)
    // A rejection's own error handler may have sent the answer before this comes: `returned` tells.
    if (exchange !== undefined && async && !exchange.returned) exchange.running = true
  }

  function settled (message: unknown): void {
    const { request, reply, error } = message as HandlerMessage
    const exchange = mine(request)
    if (exchange === undefined) return
    // A rejected handler is followed by the error handler: if that is asynchronous too, this comes a second time.
    if (error !== undefined && !reply.sent && !exchange.returned) exchange.awaitsAnswer = true
    else if (exchange.returned) exchange.awaitsAnswer = false
    exchange.running = false
    exchange.returned = true
    if (exchange.closed) requests.settle(exchange)
  }

  function mine (request: FastifyRequest): Exchange | undefined {
    const exchange = exchangeOf(request.raw)
    return exchange !== undefined && requests.owns(exchange) ? exchange : undefined
  }

  diagnostics.subscribe(`${CHANNEL}:start`, started)
  diagnostics.subscribe(`${CHANNEL}:end`, returned)
  diagnostics.subscribe(`${CHANNEL}:asyncEnd`, settled)
  return () => {
    diagnostics.unsubscribe(`${CHANNEL}:start`, started)
    diagnostics.unsubscribe(`${CHANNEL}:end`, returned)
    diagnostics.unsubscribe(`${CHANNEL}:asyncEnd`, settled)
  }
}

/** The channel says nothing after `reply.hijack()`. Routes declared before the plugin are not seen here. */
function keepPromise (route: RouteOptions): void {
  const handler = route.handler
  route.handler = function (request, reply) {
    const result: unknown = handler.call(this, request, reply)
    if (typeof result === 'object' && result !== null && 'then' in result && result !== reply) {
      const exchange = exchangeOf(request.raw)
      if (exchange !== undefined) exchange.promise = result as PromiseLike<unknown>
    }
    return result
  }
}

/** To be called before any handler or hook can have the reply. */
export function followReply (reply: FastifyReply): void {
  reply.then = thenAwaitingAnswer
  reply.hijack = hijackNoted
}

/** `return reply` makes the handler's promise settle with the response, and so as soon as the client goes. */
function thenAwaitingAnswer (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): void {
  const exchange = exchangeOf(this.request.raw)
  if (exchange !== undefined) exchange.awaitsAnswer = true
  prototypeOf(this).then.apply(this, args)
}

function hijackNoted (this: FastifyReply): FastifyReply {
  const exchange = exchangeOf(this.request.raw)
  if (exchange !== undefined) exchange.begun = exchange.hijacked = true
  return prototypeOf(this).hijack.call(this)
}

function prototypeOf (reply: FastifyReply): FastifyReply {
  return Object.getPrototypeOf(reply) as FastifyReply
}
