import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { named } from './function-name.ts'
import type { Requests } from './requests.ts'
import { isThenable } from './thenable.ts'

type UserFunction = (this: unknown, ...args: unknown[]) => unknown

/** They come before the handler: one that answers by itself and goes on is asynchronous. */
const BEFORE_HANDLER = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const
/** They come after the answer, where nothing else tells that somebody still works. */
const AFTER_HANDLER = ['preSerialization', 'onSend', 'onError', 'onResponse', 'onTimeout', 'onRequestAbort'] as const
const REQUEST_HOOKS = [...BEFORE_HANDLER, ...AFTER_HANDLER] as const

/** The methods of an app that take functions of its user. Children of the app inherit them. */
interface Registering {
  addHook: (this: FastifyInstance, name: string, hook: UserFunction) => FastifyInstance
  setErrorHandler: (this: FastifyInstance, handler: UserFunction, options?: unknown) => FastifyInstance
  setNotFoundHandler: (this: FastifyInstance, ...args: unknown[]) => FastifyInstance
  decorateReply: (this: FastifyInstance, name: string, value?: unknown, dependencies?: string[]) => FastifyInstance
}

/**
 * Follows what runs for a request beside its handler: hooks, error handlers, the handler for what is not found, and calls
 * of @fastify/reply-from. Of what is registered from now on.
 */
export function followUserCode (app: FastifyInstance, requests: Requests): void {
  const { followHook, followSubstitute, followProxied } = following(requests)

  function followHooksOf (options: Record<string, unknown>): void {
    for (const name of REQUEST_HOOKS) {
      const hooks = options[name]
      if (Array.isArray(hooks)) options[name] = hooks.map((hook: UserFunction) => takesCallbackAndPromises(name, hook) ? hook : followHook(name, hook))
      // Fastify takes any: `onRequestAbort: async () => {}`.
      else if (typeof hooks === 'function') options[name] = followHook(name, hooks as UserFunction)
    }
  }

  app.addHook('onRoute', (route) => {
    const options = route as unknown as Record<string, unknown>
    followHooksOf(options)
    if (route.errorHandler !== undefined) options['errorHandler'] = followSubstitute(route.errorHandler as unknown as UserFunction)
  })

  const registering = app as unknown as Registering
  const { addHook, setErrorHandler, setNotFoundHandler, decorateReply } = registering
  registering.addHook = function (name, hook) {
    // It may give the route hooks of its own; those that came with the route are followed already.
    if (name === 'onRoute' && typeof hook === 'function') {
      return addHook.call(this, name, named(hook, function (route) {
        const result = hook.call(this, route)
        followHooksOf(route as Record<string, unknown>)
        return result
      }))
    }
    return addHook.call(this, name, typeof hook !== 'function' || takesCallbackAndPromises(name, hook) ? hook : followHook(name, hook))
  }
  registering.setErrorHandler = function (handler, options) {
    return setErrorHandler.call(this, typeof handler === 'function' ? followSubstitute(handler) : handler, options)
  }
  registering.setNotFoundHandler = function (...args) {
    return setNotFoundHandler.apply(this, args.map((arg) => {
      if (typeof arg === 'function') return followSubstitute(arg as UserFunction)
      if (typeof arg !== 'object' || arg === null) return arg
      const options = { ...arg }
      followHooksOf(options)
      return options
    }))
  }
  registering.decorateReply = function (name, value, dependencies) {
    const followed = name === 'from' && typeof value === 'function' ? followProxied(value as UserFunction) : value
    return decorateReply.call(this, name, followed, dependencies)
  }
}

interface Following {
  followHook: (name: string, hook: UserFunction) => UserFunction
  followSubstitute: (handler: UserFunction) => UserFunction
  followProxied: (from: UserFunction) => UserFunction
}

function following (requests: Requests): Following {
  const followed = new WeakSet<UserFunction>()
  /**
   * The callbacks of hooks after the answer: Fastify does not miss one that is never called, `(request, reply) => {}`. When
   * nothing holds it any more, the hook has ended.
   */
  const forgotten = new FinalizationRegistry<() => void>((ended) => { ended() })

  function once (follow: (given: UserFunction) => UserFunction, given: UserFunction): UserFunction {
    if (followed.has(given)) return given
    const standIn = named(given, follow(given))
    followed.add(standIn)
    return standIn
  }

  /** Follows what a function of the user's has returned, where that is a promise. */
  function followResult (exchange: Exchange, result: unknown, settled?: () => void): unknown {
    if (!isThenable(result)) return result
    exchange.codeStarted()
    // Only once may it be asked for its outcome: a query builder runs its query each time.
    const promise = Promise.resolve(result)
    const ended = (): void => {
      exchange.codeEnded()
      requests.settleSoon(exchange)
    }
    promise.then(() => {
      settled?.()
      ended()
    }, ended)
    return promise
  }

  function followHook (name: string, hook: UserFunction): UserFunction {
    if (isOneOf(BEFORE_HANDLER, name)) {
      return function (...args) {
        const exchange = exchangeOf((args[0] as FastifyRequest).raw)
        return exchange === undefined ? hook.apply(this, args) : followResult(exchange, hook.apply(this, args))
      }
    }
    if (!isOneOf(AFTER_HANDLER, name)) return hook
    return function (...args) {
      const exchange = exchangeOf((args[0] as FastifyRequest).raw)
      if (exchange === undefined) return hook.apply(this, args)
      exchange.codeStarted()
      let over = false
      const ended = (): void => {
        if (over) return
        over = true
        exchange.codeEnded()
        requests.settleSoon(exchange)
      }
      const done = args.at(-1) as UserFunction
      const called = (...results: unknown[]): void => {
        // What comes next starts before this one has ended.
        done(...results)
        ended()
      }
      try {
        const result = hook.apply(this, [...args.slice(0, -1), called])
        if (!isThenable(result)) {
          if (!over) forgotten.register(called, ended)
          return result
        }
        const promise = Promise.resolve(result)
        promise.then(ended, ended)
        return promise
      } catch (error) {
        ended()
        throw error
      }
    }
  }

  /** Of an error handler, or the one for what is not found: it answers where somebody else should have. */
  function followSubstitute (handler: UserFunction): UserFunction {
    return function (...args) {
      const request = args.find(isRequest)
      const exchange = request && exchangeOf(request.raw)
      if (exchange === undefined) return handler.apply(this, args)
      exchange.handlerStarted()
      exchange.answerWithdrawn()
      const result = handler.apply(this, args)
      // The reply itself: what it settles with is the response.
      if (isReply(result)) return result
      return followResult(exchange, result, () => exchange.substituteSettled())
    }
  }

  /**
   * `reply.from()` answers nothing once its client has gone, on purpose (fastify/fastify-reply-from#424). Its own options
   * tell when the upstream has answered, or failed.
   */
  function followProxied (from: UserFunction): UserFunction {
    return function (source, given) {
      const reply = this as FastifyReply
      const exchange = exchangeOf(reply.request.raw)
      if (exchange === undefined) return from.call(this, source, given)
      const options = (given ?? {}) as Record<string, unknown>
      exchange.codeStarted()
      let over = false
      /** @param last nobody else answers, so that this is the end of it if it does not */
      const answered = (last: boolean): void => {
        if (over) return
        over = true
        // In the same turn it sends what the upstream has answered, if it does.
        process.nextTick(() => {
          exchange.codeEnded()
          if (last && exchange.over) exchange.answerGiven()
          requests.settleSoon(exchange)
        })
      }
      // An upstream that fails after somebody else has answered (`handlerTimeout`) is told to nobody.
      reply.raw.once('close', () => { if (reply.sent) answered(false) })
      const rewriteHeaders = options['rewriteHeaders'] as UserFunction | undefined
      const onError = options['onError'] as UserFunction | undefined
      try {
        return from.call(this, source, {
          ...options,
          rewriteHeaders: (headers: unknown, request: unknown) => {
            answered(true)
            return rewriteHeaders === undefined ? headers : rewriteHeaders.call(options, headers, request)
          },
          onError: (failed: FastifyReply, problem: { error: Error }) => {
            // That of the user answers when it likes.
            answered(onError === undefined)
            return onError === undefined ? failed.send(problem.error) : followResult(exchange, onError.call(options, failed, problem))
          }
        })
      } catch (error) {
        answered(false)
        throw error
      }
    }
  }

  return {
    followHook: (name, hook) => once((given) => followHook(name, given), hook),
    followSubstitute: (handler) => once(followSubstitute, handler),
    followProxied
  }
}

/** Fastify refuses such an `async` hook of an app, or in an array of a route, and must see it as it is. */
function takesCallbackAndPromises (name: string, hook: UserFunction): boolean {
  if (hook.constructor.name !== 'AsyncFunction') return false
  if (name === 'onRequestAbort') return hook.length !== 1
  return hook.length === (['onSend', 'preSerialization', 'onError', 'preParsing'].includes(name) ? 4 : 3)
}

function isOneOf (names: readonly string[], name: string): boolean {
  return names.includes(name)
}

function isRequest (arg: unknown): arg is FastifyRequest {
  return typeof arg === 'object' && arg !== null && 'raw' in arg && 'headers' in arg
}

function isReply (result: unknown): result is FastifyReply {
  return isThenable(result) && 'hijack' in result && 'raw' in result
}
