import { ROOT_CONTEXT, trace, type Context, type Span } from '@opentelemetry/api'
import { recordedSpan, tracer } from './trace-context.ts'

/** The span of one order from the queue to the answer; undefined if its request is not recorded. */
export function startOrder (): Span | undefined {
  return recordedSpan() && tracer().startSpan('intake')
}

/**
 * A batch belongs to all of its orders, so it is a trace of its own, with links to and from each order. As a child of one order it
 * would be missing in the traces of the others, and under load each next batch would belong to the same trace.
 *
 * @param orders the recorded orders
 * @returns undefined if there are none
 */
export function startBatch (orders: Span[], size: number): Span | undefined {
  if (orders.length === 0) return undefined
  const batch = tracer().startSpan('place orders', { root: true, links: orders.map(linkTo), attributes: { 'intake.batch.size': size } })
  for (const order of orders) order.addLink(linkTo(batch))
  return batch
}

/** Links an order to the batch of its twin. */
export function joinBatch (batch: Span | undefined, order: Span | undefined): void {
  if (batch === undefined || order === undefined) return
  batch.addLink(linkTo(order))
  order.addLink(linkTo(batch))
}

/** The context in which a batch runs: none of its orders' contexts, whichever order scheduled it. */
export function contextOf (batch: Span | undefined): Context {
  return batch === undefined ? ROOT_CONTEXT : trace.setSpan(ROOT_CONTEXT, batch)
}

function linkTo (span: Span) {
  return { context: span.spanContext() }
}
