import { failed } from './availability.ts'
import type { Case, Looked } from './case.ts'
import type { Exchange } from './told.ts'

/** A clean stop exits with 0: not with another code because it abandoned something, and not by a kill because it hung. */
export function uncleanStop ({ evidence, findings }: Case): Looked {
  const stops = evidence.faults.filter(({ drainMs }) => drainMs !== null)
  if (stops.length === 0) return { looked: null, because: 'No instance was told to stop.' }
  for (const [index, { kind, instance = 0, exitCode, drainMs }] of stops.entries()) {
    if (exitCode === 0) continue
    findings.add('uncleanStop', { orderId: `stop ${index + 1}` },
      `Stop ${index + 1} (${kind}, instance ${instance}) ended ${exitCode === null ? 'by a signal' : `with exit code ${exitCode}`} after ${Math.round(drainMs ?? 0)} ms.`)
  }
  return { looked: stops.length }
}

/** All clients were busy until it was too late: the request was never sent, so it cannot have failed. */
export function neverSent ({ completion }: Exchange): boolean {
  return completion?.error === 'timeout' && completion.sent === undefined && completion.type === 'fail'
}

/** "No request fails" can hold only if a balancer leads traffic away from a stopping instance. */
export function failedRequest ({ evidence, told, findings }: Case): Looked {
  if (evidence.needed.noFailedRequest !== true) return { looked: null, because: `A scenario such as ${evidence.scenario} takes the service away from its clients.` }
  const load = told.exchanges.filter(({ settling }) => !settling)
  for (const exchange of load) {
    if (!failed(exchange) || neverSent(exchange)) continue
    const { invocation: { op, operation }, completion } = exchange
    const subject = operation.kind === 'place' ? { customer: operation.customer, key: operation.key } : { orderId: `request ${op}` }
    findings.add('failedRequest', subject, `Request ${op} (${operation.kind}) was answered with ${completion?.problem ?? completion?.error ?? completion?.status ?? 'nothing'}.`, exchange)
  }
  return { looked: load.length }
}
