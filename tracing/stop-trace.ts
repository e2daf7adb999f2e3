import { context, ROOT_CONTEXT, SpanStatusCode, trace, type Attributes, type SpanContext } from '@opentelemetry/api'
import { tracer } from './trace-context.ts'
import type { DrainReport } from 'fastify-drain'

/**
 * Makes a trace of a stop from its report: a span for the stop, one for each phase, and one for each hook.
 *
 * @param spanOf the span of a request, if it was recorded; the stop has links to the requests that it abandoned
 */
export function traceStop (report: DrainReport, spanOf: (requestId: string) => SpanContext | undefined): void {
  const { startedAt, phases, hooks, requests, tracked, elapsed, exitCode } = report
  const start = Date.parse(startedAt ?? '')
  if (Number.isNaN(start)) return
  const abandoned = requests.abandoned.ids
  const drain = tracer().startSpan('drain', {
    root: true,
    startTime: start,
    links: abandoned.flatMap(id => {
      const context = spanOf(id)
      return context === undefined ? [] : [{ context, attributes: { 'request.id': id } }]
    }),
    attributes: {
      'drain.reason': report.reason ?? '',
      'drain.exit_code': exitCode ?? 0,
      'drain.deadline': report.deadline,
      ...Object.fromEntries((['completed', 'stalled', 'refused', 'unstarted', 'abandoned'] as const).map(fate => [`drain.requests.${fate}`, requests[fate].count])),
      'drain.work.abandoned': tracked.abandoned.length
    }
  })
  if (phases.aborted !== null) drain.addEvent('deadline passed', start + phases.aborted)
  for (const id of abandoned) drain.addEvent('request abandoned', { 'request.id': id }, start + (phases.aborted ?? elapsed))
  for (const label of tracked.abandoned) drain.addEvent('work abandoned', { label }, start + (phases.aborted ?? elapsed))

  const inDrain = trace.setSpan(ROOT_CONTEXT, drain)
  const closedAt = hooks.find(({ phase }) => phase === 'closed')?.started ?? elapsed
  const phasesOfHooks = {
    draining: span('draining', phases.draining, phases.closing ?? closedAt),
    closing: span('closing', phases.closing, closedAt),
    closed: inDrain
  }
  for (const { name, phase, started, duration, outcome, error } of hooks) {
    // The running hook is the one that makes this trace.
    if (outcome === 'running') continue
    span(name, started, started + duration, phasesOfHooks[phase], { 'drain.hook.outcome': outcome, ...outcome !== 'done' && { 'error.type': outcome }, ...error !== undefined && { 'drain.hook.error': error } })
  }
  if (exitCode !== 0) drain.setStatus({ code: SpanStatusCode.ERROR })
  drain.end(start + elapsed)

  /** A span between two times of the report. @returns the context for its children */
  function span (name: string, from: number | null, to: number, parent = inDrain, attributes: Attributes = {}) {
    if (from === null) return parent
    const child = tracer().startSpan(name, { startTime: start + from, attributes }, parent)
    if ('error.type' in attributes) child.setStatus({ code: SpanStatusCode.ERROR })
    // The times of the report are rounded.
    child.end(start + Math.min(to, elapsed))
    return trace.setSpan(context.active(), child)
  }
}
