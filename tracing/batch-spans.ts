import { ROOT_CONTEXT, trace, type Context, type Span } from '@opentelemetry/api'
import { recordedSpan, tracer } from './trace-context.ts'

/** The span of one request from the queue to the answer; undefined if the request is not recorded. */
export function startIntake (): Span | undefined {
  return recordedSpan() && tracer().startSpan('intake')
}

/**
 * A batch belongs to all of its requests, so it is a trace of its own, with links to and from each request. As a child of one it
 * would be missing in the traces of the others, and under load each next batch would belong to the same trace.
 *
 * @param requests the spans of the recorded ones
 * @returns undefined if there are none
 */
export function startBatch (name: string, requests: Span[], size: number): Span | undefined {
  if (requests.length === 0) return undefined
  const batch = tracer().startSpan(name, { root: true, links: requests.map(linkTo), attributes: { 'intake.batch.size': size } })
  for (const request of requests) request.addLink(linkTo(batch))
  return batch
}

/** Links a request to the batch of its twin. */
export function joinBatch (batch: Span | undefined, request: Span | undefined): void {
  if (batch === undefined || request === undefined) return
  batch.addLink(linkTo(request))
  request.addLink(linkTo(batch))
}

/** The context in which a batch runs: none of its requests' contexts, whichever scheduled it. */
export function contextOf (batch: Span | undefined): Context {
  return batch === undefined ? ROOT_CONTEXT : trace.setSpan(ROOT_CONTEXT, batch)
}

function linkTo (span: Span) {
  return { context: span.spanContext() }
}
