import type { Occasion, Verdict } from '../verdict.ts'
import type { Case } from './case.ts'
import { notShown } from './coverage.ts'
import { answers } from './problems.ts'
import { neverSent } from './restarts.ts'
import { type Order, outcome } from './told.ts'

/** A share of them: what a service does that hardly answers says little of what it does when it does. */
const mostFailed = 0.5

/** Why the evidence does not suffice, and what to do about it. */
export function missing ({ evidence, told }: Case, { faults, failedRequests }: Pick<Verdict, 'faults' | 'failedRequests'>, occasions: readonly Occasion[]): string[] {
  const { first, second, needed } = evidence
  const orders = [...told.orders.values()]
  const hits = faults.filter(({ inFlight }) => inFlight > 0).length
  const reasons: string[] = []
  const waited = told.exchanges.filter(({ settling, invocation: { purpose } }) => !settling && purpose !== 'hang-up').length
  if (evidence.needed.occasions === true && failedRequests > mostFailed * waited) reasons.push(`Most requests failed, ${failedRequests} of ${waited}: see in the log of the service why, or run it with a lower rate.`)
  if (!first) reasons.push('What is stored was not read after the faults: see why the database could not be read, and run it again.')
  if (!second) reasons.push('What is stored was not read after the settling: see why the database could not be read, and run it again.')
  if (!orders.some(({ acknowledgements }) => acknowledgements.length > 0)) reasons.push('No order was acknowledged, so none could be lost: see in the log of the service why, and run it again.')
  if (hits < needed.faultsInFlight) reasons.push(`Of ${faults.length} faults ${hits} hit a request in flight, and ${needed.faultsInFlight} must: run it with a higher rate or for longer.`)
  const lacking = notShown(occasions)
  if (lacking.length > 0) reasons.push(`Not shown, as there were too few occasions: ${lacking.map(nameOf).join('; ')}. Run it for longer or with a higher rate.`)
  const unsent = evidence.needed.noFailedRequest === true ? told.exchanges.filter(neverSent).length : 0
  if (unsent > 0) reasons.push(`${unsent} requests found no client free in time and were not sent, so that none of them could fail: run it with a lower rate or more clients.`)
  if (told.strays > 0) reasons.push(`${told.strays} answers are in the history without their invocations: see whether its files are whole, and run it again.`)
  const unsettled = orders.filter(order => !settled(order)).length
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
