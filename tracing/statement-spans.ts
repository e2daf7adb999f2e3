import { context, SpanKind, SpanStatusCode, trace, type Attributes, type Context, type Span } from '@opentelemetry/api'
import { failureOf, sqlStateOf } from '../commit/failure.ts'
import { recordedSpan, tracer } from './trace-context.ts'

/** Prisma 7 calls this around each of its steps. @prisma/instrumentation sets the same hook, but makes spans of all steps. */
interface PrismaTracingHelper {
  isEnabled (): boolean
  getTraceParent (): string
  dispatchEngineSpans (): void
  getActiveContext (): Context
  runInChildSpan<T> (step: string | { name: string, attributes?: Attributes }, run: (span?: Span, context?: Context) => T): T
}

declare global {
  // Only `var` declares a property of globalThis.

  var V7_PRISMA_INSTRUMENTATION: { helper: PrismaTracingHelper } | undefined
}

/** Makes a span of each statement within a recorded span, and of no other. @returns a function that ends this */
export function traceStatements (): () => void {
  globalThis.V7_PRISMA_INSTRUMENTATION = {
    helper: {
      isEnabled: () => recordedSpan() !== undefined,
      // Prisma's value for "none".
      getTraceParent: () => '00-10-10-00',
      dispatchEngineSpans () {},
      getActiveContext: () => context.active(),
      runInChildSpan: (step, run) => typeof step === 'string' || step.name !== 'db_query' || recordedSpan() === undefined ? run() : traceStatement(String(step.attributes?.['db.query.text']), run)
    }
  }
  return () => { globalThis.V7_PRISMA_INSTRUMENTATION = undefined }
}

/**
 * From the call to its outcome, including the wait for a connection. By the semantic conventions of databases 1.44, in which a
 * batch of orders is no "batch", because it is one statement.
 */
function traceStatement<T> (text: string, run: (span?: Span) => T): T {
  const { summary, ...attributes } = describe(text)
  const span = tracer().startSpan(summary, { kind: SpanKind.CLIENT, attributes: { 'db.system.name': 'postgresql', 'db.query.text': text, 'db.query.summary': summary, ...attributes } })
  return context.with(trace.setSpan(context.active(), span), () => {
    const result = run(span)
    Promise.resolve(result).catch((error: unknown) => {
      const sqlState = sqlStateOf(error)
      span.setAttributes({ 'error.type': failureOf(error), ...sqlState !== undefined && { 'db.response.status_code': sqlState } })
      span.setStatus({ code: SpanStatusCode.ERROR })
    }).finally(() => span.end())
    return result
  })
}

/** The text never contains values, because the service binds all of them. */
function describe (text: string): { summary: string } & Attributes {
  const [, called] = /^\s*SELECT (?:\* )?(?:FROM )?(\w+)\(/.exec(text) ?? []
  if (called !== undefined) return { summary: called, 'db.stored_procedure.name': called }
  const [operation = 'query'] = /\w+/.exec(text) ?? []
  const [, table] = /(?:FROM|INTO|UPDATE)\s+(?:"?\w+"?\.)?"?(\w+)"?/.exec(withoutBrackets(text)) ?? []
  return { summary: [operation, table ?? []].flat().join(' '), 'db.operation.name': operation, ...table !== undefined && { 'db.collection.name': table } }
}

/** A subquery has tables of its own. */
function withoutBrackets (text: string): string {
  const less = text.replace(/\([^()]*\)/g, ' ')
  return less === text ? text : withoutBrackets(less)
}
