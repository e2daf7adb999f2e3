import type { FastifyInstance, FastifyReply } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Requests } from './requests.ts'

type Overridden = 'then' | 'hijack' | 'send'

/** Follows each reply: whether it is answered, hijacked, or returned by its handler. */
export function followReplies (app: FastifyInstance, requests: Requests): void {
  app.decorateReply('then', thenOfReply)
  app.decorateReply('hijack', hijackNoted)
  app.decorateReply('send', sendNoted)

  let send: FastifyReply['send'] | undefined
  /** This costs every request. So the later steps of an answer are followed only if hooks of the application run there. */
  function sendNoted (this: FastifyReply, payload?: unknown): FastifyReply {
    send ??= undecorated(this, 'send', sendNoted)
    const exchange = exchangeOf(this.request.raw)
    if (exchange === undefined) return send.call(this, payload)
    // Marked before it is sent: after an error, an error handler withdraws this.
    exchange.answerGiven()
    const result = send.call(this, payload)
    requests.settleSoon(exchange)
    return result
  }
}

/** After `return reply` the handler's promise settles with the response, and so as soon as the client goes. */
function thenOfReply (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): void {
  exchangeOf(this.request.raw)?.handlerReturnedReply()
  undecorated(this, 'then', thenOfReply).apply(this, args)
}

function hijackNoted (this: FastifyReply): FastifyReply {
  exchangeOf(this.request.raw)?.hijacked()
  return undecorated(this, 'hijack', hijackNoted).call(this)
}

/** Decorators are on the prototype of this app's replies, which inherits from Fastify's. */
function undecorated<Name extends Overridden> (reply: FastifyReply, name: Name, ours: FastifyReply[Name]): FastifyReply[Name] {
  let holder = reply
  // Other plugins may have put theirs above it.
  while (holder[name] !== ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  while (holder[name] === ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  return holder[name]
}
