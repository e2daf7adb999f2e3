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
 * Follows each handler from its start to its settlement, also when the client has gone, and through encapsulation.
 *
 * @returns the end of it
 */
export function followHandlers (app: FastifyInstance, requests: Requests): () => void {
  const routes: Followed[] = []
  app.addHook('onRoute', (route) => { routes.push(followRoute(route, requests)) })
  app.decorateReply('then', thenAwaitingAnswer)
  app.decorateReply('hijack', hijackNoted)

  // Routes that were declared before the plugin are not announced to it.
  let unfollow = hasRoutes(app) ? followPublished(requests) : undefined
  app.addHook('onReady', async () => {
    if (routes.some((followed) => !followed.isOutermost())) unfollow ??= followPublished(requests)
  })
  return () => unfollow?.()
}

/** A route, and whether no other plugin has put a handler of its own round ours. */
interface Followed {
  isOutermost: () => boolean
}

function followRoute (route: RouteOptions, requests: Requests): Followed {
  const handler = route.handler
  const isOutermost = (): boolean => route.handler === followed
  const followed: typeof handler = function (request, reply) {
    // For a WebSocket, @fastify/websocket calls the handler with something else than a request.
    const raw = request.raw as typeof request.raw | undefined
    const exchange = raw && exchangeOf(raw)
    if (exchange === undefined) return handler.call(this, request, reply)
    if (isOutermost()) exchange.begun = exchange.followed = true

    const result: unknown = handler.call(this, request, reply)
    if (result === reply || !isThenable(result)) return result
    // Only once may it be asked for its outcome: a query builder runs its query each time.
    const promise = Promise.resolve(result)
    if (!exchange.followed) {
      exchange.promise = promise
      return promise
    }
    exchange.running = true
    promise.then(
      () => requests.returned(exchange),
      () => {
        // The error handler has its turn.
        if (!reply.sent) exchange.awaitsAnswer = true
        requests.returned(exchange)
      })
    return promise
  }
  route.handler = followed
  return { isOutermost }
}

function isThenable (result: unknown): result is PromiseLike<unknown> {
  return typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
}

function hasRoutes (app: FastifyInstance): boolean {
  try {
    return app.printRoutes() !== '(empty tree)'
  } catch {
    // A constraint that cannot be printed: it belongs to a route.
    return true
  }
}

/**
 * The same from the events that Fastify publishes, and then takes a longer way for each request; after `reply.hijack()`
 * they say nothing more. The channels are process-wide: a request of another app carries no exchange of this one.
 */
function followPublished (requests: Requests): () => void {
  function started (message: unknown): void {
    const exchange = unfollowed(message as HandlerMessage)
    if (exchange !== undefined) exchange.begun = true
  }

  function returned (message: unknown): void {
    const exchange = unfollowed(message as HandlerMessage)
    // A rejection's own error handler may have sent the answer before this comes: `returned` tells.
    if (exchange?.returned === false && (message as HandlerMessage).async) exchange.running = true
  }

  function settled (message: unknown): void {
    const { reply, error } = message as HandlerMessage
    const exchange = unfollowed(message as HandlerMessage)
    if (exchange === undefined) return
    // A rejected handler is followed by the error handler: if that is asynchronous too, this comes a second time.
    if (error !== undefined && !reply.sent && !exchange.returned) exchange.awaitsAnswer = true
    else if (exchange.returned) exchange.awaitsAnswer = false
    requests.returned(exchange)
  }

  function unfollowed ({ request }: HandlerMessage): Exchange | undefined {
    const exchange = exchangeOf(request.raw)
    return exchange !== undefined && !exchange.followed && requests.owns(exchange) ? exchange : undefined
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

/** `return reply` makes the handler's promise settle with the response, and so as soon as the client goes. */
function thenAwaitingAnswer (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): void {
  const exchange = exchangeOf(this.request.raw)
  if (exchange !== undefined) exchange.awaitsAnswer = true
  undecorated(this, 'then', thenAwaitingAnswer).apply(this, args)
}

function hijackNoted (this: FastifyReply): FastifyReply {
  const exchange = exchangeOf(this.request.raw)
  if (exchange !== undefined) exchange.begun = exchange.hijacked = true
  return undecorated(this, 'hijack', hijackNoted).call(this)
}

/** A decorator is on the prototype of this app's replies, above that of Fastify. */
function undecorated<Name extends 'then' | 'hijack'> (reply: FastifyReply, name: Name, ours: FastifyReply[Name]): FastifyReply[Name] {
  let holder = reply
  // Others may have put theirs above it.
  while (holder[name] !== ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  while (holder[name] === ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  return holder[name]
}
