import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { named } from './function-name.ts'
import type { Requests } from './requests.ts'
import { isThenable } from './thenable.ts'

type UserFunction = (this: unknown, ...args: unknown[]) => unknown

/** Hooks before the handler: one that answers by itself and goes on is asynchronous. */
const beforeHandler = ['onRequest', 'preParsing', 'preValidation', 'preHandler'] as const
/** Hooks after the answer: nothing else shows that they still run. */
const afterHandler = ['preSerialization', 'onSend', 'onError', 'onResponse', 'onTimeout', 'onRequestAbort'] as const
const requestHooks = [...beforeHandler, ...afterHandler] as const

/** The methods of an app that take functions of the application. Children of the app inherit them. */
interface Registering {
  addHook: (this: FastifyInstance, name: string, hook: UserFunction) => FastifyInstance
  setErrorHandler: (this: FastifyInstance, handler: UserFunction, options?: unknown) => FastifyInstance
  setNotFoundHandler: (this: FastifyInstance, ...args: unknown[]) => FastifyInstance
  decorateReply: (this: FastifyInstance, name: string, value?: unknown, dependencies?: string[]) => FastifyInstance
}

/**
 * Follows the code that runs for a request beside its handler: hooks, error handlers, the not-found handler, and calls of
 * @fastify/reply-from, as far as it is registered from now on.
 */
export function followUserCode (app: FastifyInstance, requests: Requests): void {
  const { followHook, followSubstitute, followProxied } = following(requests)

  function followHooksOf (options: Record<string, unknown>): void {
    for (const name of requestHooks) {
      const hooks = options[name]
      if (Array.isArray(hooks)) options[name] = hooks.map((hook: UserFunction) => takesCallbackAndPromises(name, hook) ? hook : followHook(name, hook))
      // Fastify accepts `async` functions of any length here: `onRequestAbort: async () => {}`.
      else if (typeof hooks === 'function') options[name] = followHook(name, hooks as UserFunction)
    }
  }

  app.addHook('onRoute', route => {
    const options = route as unknown as Record<string, unknown>
    followHooksOf(options)
    if (route.errorHandler !== undefined) options['errorHandler'] = followSubstitute(route.errorHandler as unknown as UserFunction)
  })

  const registering = app as unknown as Registering
  const { addHook, setErrorHandler, setNotFoundHandler, decorateReply } = registering
  registering.addHook = function (name, hook) {
    // The hook may add hooks to the route; those that came with the route are followed already.
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
    return setNotFoundHandler.apply(this, args.map(arg => {
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
   * The callbacks of hooks after the answer. Fastify does not notice one that is never called: `(request, reply) => {}`.
   * When nothing holds the callback any more, the hook has ended.
   */
  const forgotten = new FinalizationRegistry<() => void>(ended => { ended() })

  function once (follow: (given: UserFunction) => UserFunction, given: UserFunction): UserFunction {
    if (followed.has(given)) return given
    const standIn = named(given, follow(given))
    followed.add(standIn)
    return standIn
  }

  /** Follows the result of a function of the application if it is a promise. */
  function followResult (exchange: Exchange, result: unknown, settled?: () => void): unknown {
    if (!isThenable(result)) return result
    exchange.codeStarted()
    // then() may be called only once: a query builder runs its query on each call.
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
    if (isOneOf(beforeHandler, name)) {
      return function (...args) {
        const exchange = exchangeOf((args[0] as FastifyRequest).raw)
        return exchange === undefined ? hook.apply(this, args) : followResult(exchange, hook.apply(this, args))
      }
    }
    if (!isOneOf(afterHandler, name)) return hook
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
        // The next step starts before this one counts as ended.
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

  /** Follows an error handler or the not-found handler: it answers in place of the route's handler. */
  function followSubstitute (handler: UserFunction): UserFunction {
    return function (...args) {
      const request = args.find(isRequest)
      const exchange = request && exchangeOf(request.raw)
      if (exchange === undefined) return handler.apply(this, args)
      exchange.handlerStarted()
      exchange.answerWithdrawn()
      const result = handler.apply(this, args)
      // The reply itself settles with the response.
      if (isReply(result)) return result
      return followResult(exchange, result, () => exchange.substituteSettled())
    }
  }

  /**
   * `reply.from()` does not answer once its client has gone, on purpose (fastify/fastify-reply-from#424). Its own options
   * tell when the upstream has answered or failed.
   */
  function followProxied (from: UserFunction): UserFunction {
    return function (source, given) {
      const reply = this as FastifyReply
      const exchange = exchangeOf(reply.request.raw)
      if (exchange === undefined) return from.call(this, source, given)
      const options = (given ?? {}) as Record<string, unknown>
      exchange.codeStarted()
      let over = false
      /** @param last whether no other code will answer, so that the exchange ends here even without an answer */
      const answered = (last: boolean): void => {
        if (over) return
        over = true
        // If it sends the upstream's answer, it does so in the same turn.
        process.nextTick(() => {
          exchange.codeEnded()
          if (last && exchange.over) exchange.answerGiven()
          requests.settleSoon(exchange)
        })
      }
      // If other code has answered (`handlerTimeout`), nothing reports the later failure of the upstream.
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
            // The application's own onError answers at any later time.
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
    followHook: (name, hook) => once(given => followHook(name, given), hook),
    followSubstitute: handler => once(followSubstitute, handler),
    followProxied
  }
}

/** Fastify refuses an `async` hook of this length, and must see it unwrapped to do so. */
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
