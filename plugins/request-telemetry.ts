import fp from 'fastify-plugin'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ProblemType } from './errors.ts'

/** A request that is over, as the metrics, the trace and the log tell it: the same status, duration and reason in all of them. */
export interface EndedRequest {
  request: FastifyRequest
  reply: FastifyReply
  /** One that the semantic conventions of HTTP know; `_OTHER` for the rest of what Node's parser lets through. */
  method: string
  /** The route as it was declared; undefined where none matched. */
  route: string | undefined
  scheme: 'http' | 'https'
  /** 499, as nginx logs it, where the client went before it had the whole answer. 503 where the stop abandoned the request: the client got none. */
  status: number
  /** Why the client was refused, where it was. */
  problem: ProblemType | undefined
  /** Of what failed: `client-closed`, `abandoned`, and from status 500 on the problem, or the status where there is none. */
  errorType: string | undefined
  /** From the head of the request to the end of its answer. */
  durationMs: number
  /** Whether the client got the whole answer, as far as this side can tell. */
  isWhole: boolean
  /** An event stream lasts as long as its reader likes. */
  isStream: boolean
  /** Asked by machines, all the time. */
  isProbe: boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    requests: {
      /** Begun and not ended. */
      readonly active: number
      /** For each request when it begins, before all other hooks. It must not throw. */
      onBegin (listener: (request: FastifyRequest, reply: FastifyReply) => void): void
      /** For each request when it has ended, in the order of registration; also where the client has gone. It must not throw. */
      onEnd (listener: (ended: EndedRequest) => void): void
      /** Follows a request that reaches no route, and so no hook. */
      follow (request: FastifyRequest, reply: FastifyReply): void
    }
  }
  interface FastifyRequest {
    /** The trace in which the request is recorded; undefined where it is not sampled. */
    sampledTraceId?: string
  }
}

/** https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server: the methods of RFC 9110, PATCH and QUERY. */
const knownMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH', 'QUERY'])

export function methodOf ({ method }: { method: string }): string {
  return knownMethods.has(method) ? method : '_OTHER'
}

/** Tells of each request once, when it is over: what counts, traces or logs it listens here. Registered before all that may answer. */
export default fp(async app => {
  const beginnings: Array<(request: FastifyRequest, reply: FastifyReply) => void> = []
  const listeners: Array<(ended: EndedRequest) => void> = []
  let active = 0

  function follow (request: FastifyRequest, reply: FastifyReply): void {
    const begunAt = performance.now()
    active++
    for (const tell of beginnings) tell(request, reply)
    // Not onResponse, which never comes where the client has gone, and not before the last byte was handed over.
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

/** @param isAborted whether the deadline of a stop has passed, at which this side ends the connections */
function describe (request: FastifyRequest, reply: FastifyReply, durationMs: number, isAborted: boolean): EndedRequest {
  const { url: route, config } = request.routeOptions
  const isProbe = config.probe === true
  const isWhole = reply.raw.writableFinished
  const status = isWhole ? reply.statusCode : isAborted ? 503 : 499
  // A 503 without a problem of this service's is a probe's, or the refusal of a stop.
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
