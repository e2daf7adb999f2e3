import { isTransition, type Time } from '../history.ts'
import { type Case, type Looked, stateOf, subjectOf } from './case.ts'
import { stateAfter } from './steps.ts'
import { toldAs } from './stored.ts'

/**
 * A stream tells of everything that happens to its customer's orders while it is open, and where it goes on from the last event
 * that it told of, of what happened meanwhile. Order and foreign events are for others to look at.
 */
export function notStreamed (trial: Case): Looked {
  if (trial.told.streams.size === 0) return { looked: null, because: 'No event stream was open.' }
  let looked = 0
  for (const customer of trial.told.streams.keys()) {
    for (const { id, version, type, told } of owedTo(trial, customer)) {
      looked++
      if (!told) trial.findings.add('notStreamed', subjectOf(trial, id), `Order ${id} was ${type} at version ${version}, was acknowledged as that, and the open stream of ${customer} did not tell of it.`)
    }
  }
  return { looked }
}

/** Before a client closes its stream: it waits for what it knows of, and does not know what staff has done just now. */
const lastMomentMs = 1_000

export interface Owed {
  readonly id: string
  readonly version: number
  readonly type: string
  readonly told: boolean
}

/**
 * What was asked for after the stream began to vouch for everything, and was acknowledged before it was closed. It begins anew
 * where it was opened without a last event, and where the service says that there is a gap.
 */
export function owedTo (trial: Case, customer: string): Owed[] {
  const entries = trial.told.streams.get(customer) ?? []
  let since = Infinity
  let until = -Infinity
  let closedAt: Time = -Infinity
  const told = new Set<string>()
  for (const { line, at } of entries) {
    if (line.type === 'event') {
      told.add(`${line.event.orderId} ${line.event.version} ${line.event.type}`)
    } else if (line.state === 'gap' || (line.state === 'opened' && line.after === undefined)) {
      since = at
    } else if (line.state === 'closed') {
      until = at
      closedAt = line.at
    }
  }
  const owed: Owed[] = []
  const events = trial.reads.at(-1)?.events
  const owes = (id: string, version: number, reached: string) => {
    const event = events?.get(id)?.find(event => event.version === version)
    const type = event?.event === undefined ? reached : toldAs(event)
    owed.push({ id, version, type, told: told.has(`${id} ${version} ${type}`) })
  }
  for (const { id, at } of trial.told.ordersOf.get(customer) ?? []) {
    const attempts = trial.told.acknowledged.get(id)?.order.attempts ?? []
    if ((attempts[0]?.begun ?? 0) > since && at < until) owes(id, 1, stateOf(trial, 'placed'))
  }
  for (const [id, steps] of stepsOf(trial, customer)) {
    for (const [version, { type, begun, acknowledged, toStaffAt = -Infinity }] of steps) {
      if (begun > since && acknowledged < until && toStaffAt < closedAt - lastMomentMs) owes(id, version, type)
    }
  }
  return owed
}

interface Step {
  readonly type: string
  readonly begun: number
  readonly acknowledged: number
  /** Where it was acknowledged to staff. */
  readonly toStaffAt?: Time
}

/** Of each order, the acknowledged versions after the first: who asked for that step, refused or not, may have made it. */
function stepsOf (trial: Case, customer: string): Map<string, Map<number, Step>> {
  const { told } = trial
  const steps = new Map<string, Map<number, Step>>()
  const begun = new Map<string, number>()
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion, ended = Infinity } = exchange
    if (!isTransition(operation) || told.acknowledged.get(operation.id)?.order.customer !== customer) continue
    const type = stateAfter(trial, operation.kind)
    const name = `${operation.id} ${type}`
    if (!begun.has(name)) begun.set(name, exchange.begun)
    if (completion?.type !== 'ok' || completion.order?.status !== type) continue
    const of = steps.get(operation.id) ?? new Map<number, Step>()
    steps.set(operation.id, of)
    const { version } = completion.order
    if (!of.has(version)) of.set(version, { type, begun: begun.get(name) ?? 0, acknowledged: ended, ...operation.staff === true && { toStaffAt: completion.at } })
  }
  return steps
}
