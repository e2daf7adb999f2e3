import { ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api'
import { parseTraceparent, runInSpan, tracer } from './trace-context.ts'

/**
 * Sends events in a span. The span belongs to their trace if all events are of one, else to a trace of its own. It has links to the
 * causes of the events.
 *
 * @param traceparents the trace contexts of the events; undefined for an event without a sampled trace
 */
export async function traceSending<T> (traceparents: Array<string | null | undefined>, send: () => Promise<T>): Promise<T> {
  const makers = traceparents.flatMap(traceparent => parseTraceparent(traceparent ?? undefined) ?? [])
  const [first] = makers
  if (first === undefined) return await send()
  const isOneTrace = makers.length === traceparents.length && makers.every(({ traceId }) => traceId === first.traceId)
  const parent = isOneTrace ? trace.setSpanContext(ROOT_CONTEXT, first) : ROOT_CONTEXT
  const span = tracer().startSpan('send order events', {
    kind: SpanKind.PRODUCER,
    links: makers.map(context => ({ context })),
    attributes: { 'messaging.operation.type': 'send', 'messaging.operation.name': 'publish', 'messaging.batch.message_count': traceparents.length }
  }, parent)
  return await runInSpan(span, parent, send)
}
