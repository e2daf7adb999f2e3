import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, type Context, type Span, type SpanContext } from '@opentelemetry/api'
import fp from 'fastify-plugin'
import type { DrainReport } from 'fastify-drain'
import { methodOf, type EndedRequest } from './request-telemetry.ts'
import type { Tracing } from '../tracing/start.ts'
import { traceStop } from '../tracing/stop-trace.ts'
import { parseTraceparent, tracer } from '../tracing/trace-context.ts'
import type { FastifyRequest } from 'fastify'
import type { Bindings, Logger } from 'pino'

export interface TracingOptions {
  /** Whether a request continues its caller's trace. */
  followsCallers: boolean
  /** undefined: no traces are made. */
  traces: Tracing | undefined
}

interface RequestTrace {
  span: Span
  /** The handler runs in it. */
  context: Context
  startedAt: number
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Makes a trace of the stop, and flushes all spans. It takes at most `flushLimitMs`, and never rejects. */
    traceStop (report: DrainReport): Promise<void>
  }
  interface FastifyRequest {
    /** undefined: not recorded. */
    trace?: RequestTrace
  }
  /** Both apps use pino, which has more than Fastify's type of a logger. */
  interface FastifyBaseLogger extends Pick<Logger, 'setBindings'> {}
}

/** Below the drain's limit for `onReport`, beyond which the stop would count as failed. */
const flushLimitMs = 800

/** A handler may go on after its client has gone, and a stop may abandon it later. The spans of so many such requests are kept. */
const goneMax = 1_000

/** Puts the id of a request's trace into each of its log lines. If traces are switched on, each request except probes is a span. */
export default fp<TracingOptions>(async (app, { followsCallers, traces }) => {
  if (traces === undefined) {
    if (followsCallers) app.requests.onBegin(logTraceOfCaller)
    return
  }
  app.settings.onChange(({ tracing }) => { if (tracing.export !== undefined) traces.resample(tracing.export.sampler.ratio) })
  const requestTracer = tracer()
  const spanContexts = new Map<string, SpanContext>()
  const gone = new Set<string>()

  app.decorateRequest('trace')
  app.requests.onBegin(request => {
    if (request.routeOptions.config.probe === true) return
    const parent = request.headers.traceparent === undefined ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, request.headers)
    const startedAt = Date.now()
    const span = requestTracer.startSpan(nameOf(request), { kind: SpanKind.SERVER, startTime: startedAt }, parent)
    const { traceId, spanId } = span.spanContext()
    const isRecorded = span.isRecording()
    log(request, { trace_id: traceId, ...isRecorded && { span_id: spanId, trace_flags: '01' } })
    if (!isRecorded) return
    span.setAttributes(attributesOf(request))
    request.trace = { span, context: trace.setSpan(parent, span), startedAt }
    request.sampledTraceId = traceId
    spanContexts.set(request.id, span.spanContext())
  })

  // preHandler and not earlier: AsyncLocalStorage is lost while a body is read (nodejs/node#41285).
  app.addHook('preHandler', (request, _reply, done) => {
    if (request.trace === undefined) done()
    else context.with(request.trace.context, done)
  })

  app.requests.onEnd(ended => {
    const { request, isWhole } = ended
    if (request.trace === undefined) return
    end(request.trace, ended)
    if (isWhole) spanContexts.delete(request.id)
    else gone.add(request.id)
    const [oldest] = gone
    if (gone.size > goneMax && oldest !== undefined) {
      gone.delete(oldest)
      spanContexts.delete(oldest)
    }
  })

  app.decorate('traceStop', async (report: DrainReport) => {
    traceStop(report, id => spanContexts.get(id))
    await traces.flush(flushLimitMs)
  })
}, { name: 'tracing', fastify: '5.x', dependencies: ['request-telemetry'] })

function logTraceOfCaller (request: FastifyRequest): void {
  const { traceparent } = request.headers
  const caller = traceparent === undefined ? undefined : parseTraceparent(traceparent)
  if (caller !== undefined) log(request, { trace_id: caller.traceId })
}

/** Changes the request's own logger, which its reply shares. A child logger would cost ten times as much, because each has a prototype of its own. */
function log (request: FastifyRequest, trace: Bindings): void {
  request.log.setBindings(trace)
}

function nameOf (request: FastifyRequest): string {
  const { url: route } = request.routeOptions
  const method = methodOf(request) === '_OTHER' ? 'HTTP' : request.method
  return route === undefined ? method : `${method} ${route}`
}

/** Semantic conventions of HTTP servers 1.44. Without the query, which may hold private data. */
function attributesOf (request: FastifyRequest) {
  const { url: route } = request.routeOptions
  const method = methodOf(request)
  const { hostname, port, protocol, headers } = request
  return {
    'http.request.method': method,
    ...method === '_OTHER' && { 'http.request.method_original': request.method },
    ...route !== undefined && { 'http.route': route },
    'url.path': request.url.split('?')[0] ?? '',
    'url.scheme': protocol,
    'network.protocol.version': request.raw.httpVersion,
    ...hostname !== '' && { 'server.address': hostname },
    ...port !== null && { 'server.port': port },
    ...headers['user-agent'] !== undefined && { 'user_agent.original': headers['user-agent'] },
    'http.response.header.x-request-id': [request.id]
  }
}

/** A client that has gone is no error of the server; the status and the error type show it. */
function end ({ span, startedAt }: RequestTrace, { status, errorType, durationMs }: EndedRequest): void {
  span.setAttribute('http.response.status_code', status)
  if (errorType !== undefined) span.setAttribute('error.type', errorType)
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
  span.end(startedAt + durationMs)
}
