import diagnostics from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { named } from './function-name.ts'
import type { Requests } from './requests.ts'
import { isThenable } from './thenable.ts'

const kSettled = Symbol('fastify-drain.settled')
const channel = 'tracing:fastify.request.handler'

/** What Fastify publishes: one object for all events of a request. */
interface HandlerMessage {
  request: FastifyRequest
  reply: FastifyReply
  async: boolean
  error?: unknown
  [kSettled]?: true
}

/**
 * Follows each route's handler from its start until it settles, in every encapsulated context, even if the client has gone.
 *
 * @returns the function that ends the following
 */
export function followHandlers (app: FastifyInstance, requests: Requests): () => void {
  const routes: Followed[] = []
  app.addHook('onRoute', route => { routes.push(followRoute(route, requests)) })

  // The onRoute hook misses routes that were declared before the plugin.
  let unfollow = hasRoutes(app) ? followPublished(requests) : undefined
  app.addHook('onReady', async () => {
    if (routes.some(followed => !followed.isOutermost())) unfollow ??= followPublished(requests)
  })
  return () => unfollow?.()
}

/** A route, and whether our wrapper is the outermost: another plugin may have wrapped it. */
interface Followed {
  isOutermost: () => boolean
}

function followRoute (route: RouteOptions, requests: Requests): Followed {
  const handler = route.handler
  const isOutermost = (): boolean => route.handler === followed
  const followed: typeof handler = function (request, reply) {
    // For a WebSocket, @fastify/websocket calls the handler with a socket in place of the request.
    const raw = request.raw as typeof request.raw | undefined
    const exchange = raw && exchangeOf(raw)
    if (exchange === undefined) return handler.call(this, request, reply)
    const outermost = isOutermost()
    if (outermost) exchange.followedHandlerStarted()

    const result: unknown = handler.call(this, request, reply)
    if (result === reply || !isThenable(result)) return result
    if (outermost) {
      exchange.handlerPromised()
      return new FollowedResult(result, exchange, requests, reply)
    }
    // The published events cover the outermost handler, and stop at `reply.hijack()`. then() may be called only once: a
    // query builder runs its query on each call.
    const promise = Promise.resolve(result)
    const ended = (): void => { if (exchange.isHijacked) settle(exchange, requests, false) }
    promise.then(ended, ended)
    return promise
  }
  route.handler = named(handler, followed)
  return { isOutermost }
}

/** Wraps what a handler returned, for Fastify to wait for. An additional promise would cost every request more. */
class FollowedResult {
  readonly #result: PromiseLike<unknown>
  readonly #exchange: Exchange
  readonly #requests: Requests
  readonly #reply: FastifyReply

  constructor (result: PromiseLike<unknown>, exchange: Exchange, requests: Requests, reply: FastifyReply) {
    this.#result = result
    this.#exchange = exchange
    this.#requests = requests
    this.#reply = reply
  }

  then (fulfilled?: (payload: unknown) => unknown, rejected?: (error: unknown) => unknown): PromiseLike<unknown> {
    return this.#result.then(payload => {
      settle(this.#exchange, this.#requests, false)
      return fulfilled === undefined ? payload : fulfilled(payload)
    }, (error: unknown) => {
      // After a failure an error handler answers.
      settle(this.#exchange, this.#requests, !this.#reply.sent)
      if (rejected === undefined) throw error
      return rejected(error)
    })
  }

  /** For other callers than Fastify: a route may call the handler of another. */
  catch (rejected: (error: unknown) => unknown): Promise<unknown> {
    return Promise.resolve(this).catch(rejected)
  }

  finally (ended: () => void): Promise<unknown> {
    return Promise.resolve(this).finally(ended)
  }
}

function settle (exchange: Exchange, requests: Requests, failed: boolean): void {
  exchange.handlerSettled(failed)
  requests.settleSoon(exchange)
}

function hasRoutes (app: FastifyInstance): boolean {
  try {
    return app.printRoutes() !== '(empty tree)'
  } catch {
    // A constraint that cannot be printed belongs to a route.
    return true
  }
}

/**
 * Follows handlers by the events that Fastify publishes. Subscribing makes Fastify do more work for each request, and the
 * events stop at `reply.hijack()`. The channels are process-wide: a request of another app carries no exchange of this one.
 */
function followPublished (requests: Requests): () => void {
  function started (message: unknown): void {
    unfollowed(message as HandlerMessage)?.handlerStarted()
  }

  function returned (message: unknown): void {
    const { async, [kSettled]: settled } = message as HandlerMessage
    // A thenable may settle before it is returned.
    if (async && settled === undefined) unfollowed(message as HandlerMessage)?.handlerPromised()
  }

  function settled (message: unknown): void {
    const handler = message as HandlerMessage
    const exchange = unfollowed(handler)
    // An asynchronous error handler publishes this a second time.
    if (exchange === undefined || handler[kSettled] === true) return
    handler[kSettled] = true
    exchange.handlerSettled(handler.error !== undefined)
    requests.settleSoon(exchange)
  }

  function unfollowed ({ request }: HandlerMessage): Exchange | undefined {
    const exchange = exchangeOf(request.raw)
    return exchange !== undefined && !exchange.followed && requests.owns(exchange) ? exchange : undefined
  }

  diagnostics.subscribe(`${channel}:start`, started)
  diagnostics.subscribe(`${channel}:end`, returned)
  diagnostics.subscribe(`${channel}:asyncEnd`, settled)
  return () => {
    diagnostics.unsubscribe(`${channel}:start`, started)
    diagnostics.unsubscribe(`${channel}:end`, returned)
    diagnostics.unsubscribe(`${channel}:asyncEnd`, settled)
  }
}
