import { ROOT_CONTEXT, trace, type Context, type Span } from '@opentelemetry/api'
import { recordedSpan, tracer } from './trace-context.ts'

/** From the queue to the answer of one order; undefined where its request is not recorded. */
export function startOrder (): Span | undefined {
  return recordedSpan() && tracer().startSpan('intake')
}

/**
 * A batch belongs to all of its orders, so it is a trace of its own, with a link to each order and one from each. As a child of
 * one of them it would be missing in the others, and under load the next batch would follow from it for ever.
 *
 * @param orders the recorded ones
 * @returns undefined where there are none
 */
export function startBatch (orders: Span[], size: number): Span | undefined {
  if (orders.length === 0) return undefined
  const batch = tracer().startSpan('place orders', { root: true, links: orders.map(linkTo), attributes: { 'intake.batch.size': size } })
  for (const order of orders) order.addLink(linkTo(batch))
  return batch
}

/** For an order that joins a twin whose batch is under way. */
export function joinBatch (batch: Span | undefined, order: Span | undefined): void {
  if (batch === undefined || order === undefined) return
  batch.addLink(linkTo(order))
  order.addLink(linkTo(batch))
}

/** In which a batch runs: none of its orders' contexts, whoever has scheduled it. */
export function contextOf (batch: Span | undefined): Context {
  return batch === undefined ? ROOT_CONTEXT : trace.setSpan(ROOT_CONTEXT, batch)
}

function linkTo (span: Span) {
  return { context: span.spanContext() }
}
