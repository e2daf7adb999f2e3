import { context, isSpanContextValid, SpanStatusCode, trace, TraceFlags, type Context, type Span, type SpanContext, type Tracer } from '@opentelemetry/api'

/** Looked up at each use, because the SDK may start after this file was loaded, and a test may stop it. */
export function tracer (): Tracer {
  return trace.getTracer('last-orders')
}

/** The span in which the caller runs; undefined if it is not recorded, so that tracing does no work for it. */
export function recordedSpan (): Span | undefined {
  const span = trace.getSpan(context.active())
  return span?.isRecording() === true ? span : undefined
}

/** https://www.w3.org/TR/trace-context/#traceparent-header. A later version may have more after the flags. */
export function parseTraceparent (header: string | string[] | undefined): SpanContext | undefined {
  if (typeof header !== 'string') return undefined
  const [, version, traceId = '', spanId = '', flags = '', more] = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(header.trim()) ?? []
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined
  const spanContext = { traceId, spanId, traceFlags: parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true }
  return isSpanContextValid(spanContext) ? spanContext : undefined
}

/** The header with which another service continues the trace; undefined if the span is not sampled. */
export function traceparentOf (span: Span | undefined): string | undefined {
  if (span === undefined) return undefined
  const { traceId, spanId, traceFlags } = span.spanContext()
  return (traceFlags & TraceFlags.SAMPLED) === 0 ? undefined : `00-${traceId}-${spanId}-01`
}

/** The same of the span in which the caller runs, for a column that may be null. */
export function recordedTraceparent (): string | null {
  return traceparentOf(recordedSpan()) ?? null
}

/** Runs in a span of `parent`, and ends the span. A rejection makes it an error. */
export async function runInSpan<T> (span: Span, parent: Context, run: () => Promise<T>): Promise<T> {
  try {
    return await context.with(trace.setSpan(parent, span), run)
  } catch (error) {
    span.setAttribute('error.type', error instanceof Error ? error.name : typeof error)
    span.setStatus({ code: SpanStatusCode.ERROR })
    throw error
  } finally {
    span.end()
  }
}
