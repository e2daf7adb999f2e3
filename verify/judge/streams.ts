import { isTransition, type Time } from '../history.ts'
import { type Case, type Looked, stateOf, subjectOf } from './case.ts'
import { stateAfter } from './steps.ts'
import { toldAs } from './stored.ts'

/**
 * A stream sends everything that happens to its customer's orders while it is open. If it resumes from its last event, it also
 * sends what happened meanwhile. Other checks cover the sequence of events, and events of other customers.
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

/** ms before a client closes its stream. It waits for the events that it knows of, but cannot know the latest changes by staff. */
const lastMomentMs = 1_000

export interface Owed {
  readonly id: string
  readonly version: number
  readonly type: string
  readonly told: boolean
}

/**
 * The changes that were requested after the stream began to guarantee every event, and acknowledged before it was closed. The
 * guarantee begins anew if the stream is opened without a last event, and if the service reports a gap.
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
  /** Set if it was acknowledged to staff. */
  readonly toStaffAt?: Time
}

/** For each order, the acknowledged versions after the first: any sender of such a request, refused or not, may have made the version. */
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
    if (!of.has(version)) {
      of.set(version, {
        type,
        begun: begun.get(name) ?? 0,
        acknowledged: ended,
        ...operation.staff === true && { toStaffAt: completion.at }
      })
    }
  }
  return steps
}
