import { context, SpanKind, type Span } from '@opentelemetry/api'
import { recordedSpan, runInSpan, tracer } from './trace-context.ts'

export interface TracedCall {
  method: string
  /** Such as `charge`. It stands for the path, which may name a customer. */
  kind: string
  url: URL
  /** From 1. */
  attempt: number
}

/**
 * Makes one attempt of a call to another service, in a span if the caller's is recorded: semantic conventions of HTTP clients 1.44.
 *
 * @param send gets the span, for what it learns of the answer
 */
export async function traceCall<T> ({ method, kind, url, attempt }: TracedCall, send: (span: Span | undefined) => Promise<T>): Promise<T> {
  if (recordedSpan() === undefined) return await send(undefined)
  const span = tracer().startSpan(`${method} ${kind}`, {
    kind: SpanKind.CLIENT,
    attributes: {
      'http.request.method': method,
      'server.address': url.hostname,
      'server.port': Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
      ...attempt > 1 && { 'http.request.resend_count': attempt - 1 }
    }
  })
  return await runInSpan(span, context.active(), () => send(span))
}
