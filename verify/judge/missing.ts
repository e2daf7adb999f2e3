import type { Occasion, Verdict } from '../verdict.ts'
import type { Case } from './case.ts'
import { notShown } from './coverage.ts'
import type { Circumstances } from './evidence.ts'
import { answers } from './problems.ts'
import { neverSent } from './restarts.ts'
import type { Stored } from './stored.ts'
import { type Order, outcome } from './told.ts'

/** The largest share of failed requests: a service that hardly answers proves little about its answers. */
const mostFailed = 0.5

/** What evidence may be missing for some customers, or for all. */
export interface Gaps {
  /** Requests of the load whose clients waited. */
  readonly waited: number
  readonly acknowledged: number
  readonly unsent: number
  readonly strays: number
  readonly unsettled: number
}

export const noGaps: Gaps = { waited: 0, acknowledged: 0, unsent: 0, strays: 0, unsettled: 0 }

export function gaps ({ told: { exchanges, orders, strays } }: Case, before = noGaps): Gaps {
  let { waited, acknowledged, unsent, unsettled } = before
  for (const exchange of exchanges) {
    if (!exchange.settling && exchange.invocation.purpose !== 'hang-up') waited++
    if (neverSent(exchange)) unsent++
  }
  for (const order of orders.values()) {
    if (order.acknowledgements.length > 0) acknowledged++
    if (!settled(order)) unsettled++
  }
  return { waited, acknowledged, unsent, unsettled, strays: before.strays + strays }
}

/** Why the evidence is not sufficient, and what to do about it. */
export function missing ({ needed }: Circumstances, reads: readonly Stored[], { waited, acknowledged, unsent, strays, unsettled }: Gaps, { faults, failedRequests }: Pick<Verdict, 'faults' | 'failedRequests'>, occasions: readonly Occasion[]): string[] {
  const hits = faults.filter(({ inFlight }) => inFlight > 0).length
  const reasons: string[] = []
  if (needed.occasions === true && failedRequests > mostFailed * waited) reasons.push(`Most requests failed, ${failedRequests} of ${waited}: see in the log of the service why, or run it with a lower rate.`)
  if (!reads.some(({ afterSettling }) => !afterSettling)) reasons.push('The stored data was not read after the faults: see why the database could not be read, and run it again.')
  if (!reads.some(({ afterSettling }) => afterSettling)) reasons.push('The stored data was not read after the orders were sent again: see why the database could not be read, and run it again.')
  if (acknowledged === 0) reasons.push('No order was acknowledged, so none could be lost: see in the log of the service why, and run it again.')
  if (hits < needed.faultsInFlight) reasons.push(`Of ${faults.length} faults ${hits} hit a request in flight, and ${needed.faultsInFlight} must: run it with a higher rate or for longer.`)
  const lacking = notShown(occasions)
  if (lacking.length > 0) reasons.push(`Not shown, because there were too few occasions: ${lacking.map(nameOf).join('; ')}. Run it for longer or with a higher rate.`)
  if (needed.noFailedRequest === true && unsent > 0) reasons.push(`${unsent} requests found no free client in time and were not sent, so they could not fail: run it with a lower rate or more clients.`)
  if (strays > 0) reasons.push(`${strays} answers are in the history without their invocations: see whether its files are whole, and run it again.`)
  if (unsettled > 0) reasons.push(`${unsettled} keys that were acknowledged or unknown were not answered when posted again: see in the log of the service why, and run it again.`)
  return reasons
}

function nameOf ({ promise, kind, says, count, needed }: Occasion): string {
  return `${promise}${kind === undefined ? '' : ` under ${kind}`}, ${says}: ${count} of ${needed}`
}

function settled ({ attempts }: Order): boolean {
  return attempts.every(attempt => outcome(attempt) === 'fail') || attempts.some(({ settling, completion }) =>
    settling && (completion?.type === 'ok' || (completion?.type === 'fail' && completion.problem !== undefined && answers.has(completion.problem))))
}
