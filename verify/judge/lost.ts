import { isOnOrder, isTransition } from '../history.ts'
import type { OrderAnswered, OrderStored } from '../target.ts'
import { type Case, type Looked, subjectOf } from './case.ts'
import type { Stored } from './stored.ts'
import { type Exchange, knownAt } from './told.ts'

/** Acknowledged orders and transitions must be stored when the faults are over, and later reads must show them. */
export function lost (trial: Case): Looked {
  const { told, reads } = trial
  let looked = 0
  for (const read of reads) looked += ordersNotStored(trial, read)
  for (const exchange of told.exchanges) {
    if (exchange.known > 0) looked += notShown(trial, exchange)
    looked += pageBehind(trial, exchange)
    for (const read of reads) looked += transitionNotStored(trial, read, exchange)
  }
  return reads.length > 0 ? { looked } : { looked, because: 'There was no final read, so only the answers were checked.' }
}

function ordersNotStored ({ told, findings }: Case, read: Stored): number {
  let looked = 0
  for (const [name, order] of told.orders) {
    const due = order.acknowledgements.filter(acknowledgement => acknowledgedBefore(read, acknowledgement))
    if (due.length === 0) continue
    looked++
    // If two ids were acknowledged for one key, one stored row is enough here: the other is a duplicate.
    const ids = new Set(due.flatMap(({ completion }) => completion?.order?.id ?? []))
    const rows = read.byKey.get(name) ?? []
    if (ids.size > 0 ? rows.some(row => ids.has(row.id)) : rows.length > 0) continue
    const [id] = ids
    findings.add('lost', { customer: order.customer, key: order.key, ...id !== undefined && { orderId: id } },
      `Order ${id ?? 'without an id'} was acknowledged to ${order.customer} for key ${order.key}, and was not stored ${when(read)}.`)
  }
  return looked
}

function transitionNotStored (trial: Case, read: Stored, exchange: Exchange): 0 | 1 {
  const { invocation: { operation }, completion } = exchange
  if (!isTransition(operation)) return 0
  if (completion?.type !== 'ok' || !completion.order || !acknowledgedBefore(read, exchange)) return 0
  const answered = completion.order
  const rows = read.byId.get(operation.id) ?? []
  if (!rows.some(row => contains(row, read, answered))) {
    trial.findings.add('lost', subjectOf(trial, operation.id), `Order ${operation.id} was acknowledged as ${answered.status} at version ${answered.version}, and was not stored so ${when(read)}.`)
  }
  return 1
}

/** The check of the outbox reports a missing event itself. */
function contains (row: OrderStored, read: Stored, { version, status }: OrderAnswered): boolean {
  if (row.version < version || (row.version === version && row.status !== status)) return false
  const events = read.events?.get(row.id)?.filter(event => event.version === version) ?? []
  return events.length === 0 || events.some(event => event.type === status)
}

function notShown (trial: Case, { invocation: { operation }, completion, known }: Exchange): 0 | 1 {
  if (!isOnOrder(operation)) return 0
  const before = `Order ${operation.id} was acknowledged at version ${known} before ${operation.customer} asked to ${operation.kind} it`
  if (completion?.type === 'fail' && completion.problem === 'not-found') {
    trial.findings.add('lost', subjectOf(trial, operation.id), `${before}, and was not found.`)
  } else if (completion?.type === 'ok' && completion.order && completion.order.version < known) {
    trial.findings.add('lost', subjectOf(trial, operation.id), `${before}, and the answer showed version ${completion.order.version}.`)
  }
  return 1
}

/** A page, too, must show an order as it was acknowledged before, or later. */
function pageBehind (trial: Case, exchange: Exchange): number {
  const { begun, completion } = exchange
  for (const { id, version } of completion?.shown ?? []) {
    const known = knownAt(trial.told, id, begun)
    if (version < known) trial.findings.add('lost', subjectOf(trial, id), `Order ${id} was acknowledged at version ${known} before a page was asked for, and the page showed version ${version}.`, exchange)
  }
  return completion?.shown?.length ?? 0
}

function acknowledgedBefore (read: Stored, exchange: Exchange): boolean {
  return read.afterSettling || !exchange.settling
}

function when (read: Stored): string {
  return read.afterSettling ? 'when every key had been posted again' : 'after the faults'
}
