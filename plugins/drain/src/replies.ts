import type { FastifyInstance, FastifyReply } from 'fastify'
import { exchangeOf } from './exchange.ts'
import type { Requests } from './requests.ts'

type Overridden = 'then' | 'hijack' | 'send'

/** Follows what becomes of a reply: that it is answered, hijacked, or given back by its handler. */
export function followReplies (app: FastifyInstance, requests: Requests): void {
  app.decorateReply('then', thenOfReply)
  app.decorateReply('hijack', hijackNoted)
  app.decorateReply('send', sendNoted)

  let send: FastifyReply['send'] | undefined
  /** It costs every request: the rest of the answer's way is followed only where hooks of the user's are on it. */
  function sendNoted (this: FastifyReply, payload?: unknown): FastifyReply {
    send ??= undecorated(this, 'send', sendNoted)
    const exchange = exchangeOf(this.request.raw)
    if (exchange === undefined) return send.call(this, payload)
    // Before it is: an error goes to an error handler, which takes this back.
    exchange.answerGiven()
    const result = send.call(this, payload)
    requests.settleSoon(exchange)
    return result
  }
}

/** `return reply` makes the handler's promise settle with the response, and so as soon as the client goes. */
function thenOfReply (this: FastifyReply, ...args: Parameters<FastifyReply['then']>): void {
  exchangeOf(this.request.raw)?.handlerReturnedReply()
  undecorated(this, 'then', thenOfReply).apply(this, args)
}

function hijackNoted (this: FastifyReply): FastifyReply {
  exchangeOf(this.request.raw)?.hijacked()
  return undecorated(this, 'hijack', hijackNoted).call(this)
}

/** A decorator is on the prototype of this app's replies, above that of Fastify. */
function undecorated<Name extends Overridden> (reply: FastifyReply, name: Name, ours: FastifyReply[Name]): FastifyReply[Name] {
  let holder = reply
  // Others may have put theirs above it.
  while (holder[name] !== ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  while (holder[name] === ours) holder = Object.getPrototypeOf(holder) as FastifyReply
  return holder[name]
}
