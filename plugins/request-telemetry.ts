import fp from 'fastify-plugin'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ProblemType } from './errors.ts'

/** A request that is over. Metrics, traces and the log report the same status, duration and reason. */
export interface EndedRequest {
  request: FastifyRequest
  reply: FastifyReply
  /** A method that the semantic conventions of HTTP know; `_OTHER` for others that Node's parser accepts. */
  method: string
  /** The route as declared; undefined: none matched. */
  route: string | undefined
  scheme: 'http' | 'https'
  /** 499, as in nginx, if the client went before it had the whole answer. 503 if the stop abandoned the request: the client got no answer. */
  status: number
  /** Why the service refused the request, if it did. */
  problem: ProblemType | undefined
  /** Why the request failed: `client-closed`, `abandoned`, or from status 500 on the problem, or else the status. */
  errorType: string | undefined
  /** From the head of the request to the end of its answer. */
  durationMs: number
  /** Whether the client got the whole answer, as far as this side can tell. */
  isWhole: boolean
  /** An event stream lasts as long as its reader likes. */
  isStream: boolean
  /** Whether machines ask it all the time. */
  isProbe: boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    requests: {
      /** Requests begun and not ended. */
      readonly active: number
      /** Calls the listener when a request begins, before all other hooks. It must not throw. */
      onBegin (listener: (request: FastifyRequest, reply: FastifyReply) => void): void
      /** Calls the listener when a request has ended, even if the client has gone. It must not throw. */
      onEnd (listener: (ended: EndedRequest) => void): void
      /** Follows a request that reaches no route, and so no hook. */
      follow (request: FastifyRequest, reply: FastifyReply): void
    }
  }
  interface FastifyRequest {
    /** The trace that records the request; undefined: not sampled. */
    sampledTraceId?: string
  }
}

/** https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server: the methods of RFC 9110, PATCH and QUERY. */
const knownMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH', 'QUERY'])

export function methodOf ({ method }: { method: string }): string {
  return knownMethods.has(method) ? method : '_OTHER'
}

/** Reports each request once, when it is over, to metrics, traces and the log. Registered before everything that may answer. */
export default fp(async app => {
  const beginnings: Array<(request: FastifyRequest, reply: FastifyReply) => void> = []
  const listeners: Array<(ended: EndedRequest) => void> = []
  let active = 0

  function follow (request: FastifyRequest, reply: FastifyReply): void {
    const begunAt = performance.now()
    active++
    for (const tell of beginnings) tell(request, reply)
    // 'close' comes after the last byte, and even if the client has gone; onResponse would not.
    reply.raw.on('close', () => {
      active--
      const ended = describe(request, reply, performance.now() - begunAt, app.drain.signal.aborted)
      for (const tell of listeners) tell(ended)
    })
  }

  app.decorate('requests', {
    get active () {
      return active
    },
    onBegin (listener: (request: FastifyRequest, reply: FastifyReply) => void) {
      beginnings.push(listener)
    },
    onEnd (listener: (ended: EndedRequest) => void) {
      listeners.push(listener)
    },
    follow
  })
  app.decorateRequest('sampledTraceId')
  app.addHook('onRequest', (request, reply, done) => {
    follow(request, reply)
    done()
  })
}, { name: 'request-telemetry', fastify: '5.x', dependencies: ['errors'] })

/** @param isAborted whether a stop has passed its deadline, at which this side ends the connections */
function describe (request: FastifyRequest, reply: FastifyReply, durationMs: number, isAborted: boolean): EndedRequest {
  const { url: route, config } = request.routeOptions
  const isProbe = config.probe === true
  const isWhole = reply.raw.writableFinished
  const status = isWhole ? reply.statusCode : isAborted ? 503 : 499
  // A 503 without a problem of this service is a probe's, or a stop's refusal.
  const problem = request.problem ?? (isWhole && status === 503 && !isProbe ? 'not-started' : undefined)
  return {
    request,
    reply,
    method: methodOf(request),
    route,
    scheme: 'encrypted' in request.raw.socket ? 'https' : 'http',
    status,
    problem,
    errorType: isWhole ? status < 500 ? undefined : problem ?? String(status) : isAborted ? 'abandoned' : 'client-closed',
    durationMs,
    isWhole,
    isStream: String(reply.getHeader('content-type')).startsWith('text/event-stream'),
    isProbe
  }
}
