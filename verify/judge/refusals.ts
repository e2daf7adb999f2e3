import { isOnOrder, isTransition, type OnOrder, type Transition } from '../history.ts'
import { type Case, type Looked, subjectOf } from './case.ts'
import type { Subject } from './findings.ts'
import { isOwn, stateAfter } from './steps.ts'
import { type Attempt, type Exchange, keyOf } from './told.ts'

/**
 * A refusal that names a reason is true. (The check of lost orders covers not-found, and the check of shortages covers
 * out-of-stock.)
 */
export function falseRefusal (trial: Case): Looked {
  let looked = 0
  for (const exchange of trial.told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (completion?.type !== 'fail' || completion.problem === undefined) continue
    let subject: Subject | undefined
    let says: string | undefined
    if (operation.kind === 'place') {
      subject = { customer: operation.customer, key: operation.key }
      says = orderRefused(trial, exchange as Attempt)
    } else if (isOnOrder(operation)) {
      subject = subjectOf(trial, operation.id)
      says = isTransition(operation) ? stepRefused(trial, operation, exchange) : rightRefused(trial, operation, exchange)
    } else if (operation.kind === 'list' && completion.problem === 'forbidden') {
      subject = { customer: operation.customer }
      says = 'everybody may list their own orders'
    }
    if (subject === undefined) continue
    looked++
    if (says !== undefined) trial.findings.add('falseRefusal', subject, `Request ${exchange.invocation.op} (${operation.kind}) of ${operation.customer} was refused as ${completion.problem}: ${says}.`, exchange)
  }
  return looked === 0 ? { looked: null, because: 'No request was refused for a reason that can be checked.' } : { looked }
}

function orderRefused (trial: Case, { invocation: { operation }, completion, ended = Infinity, body }: Attempt): string | undefined {
  if (operation.kind !== 'place') return undefined
  const { items, currency } = operation.order
  switch (completion?.problem) {
    case 'forbidden': return 'everybody may place an order'
    case 'unknown-product': {
      const sold = new Set(trial.evidence.products.flatMap(product => product.currency === currency ? product.sku : []))
      return items.every(({ sku }) => sold.has(sku)) ? 'the catalogue has all that it asks for' : undefined
    }
    case 'idempotency-key-reused': {
      const others = trial.told.orders.get(keyOf(operation))?.attempts.filter(other => other.body !== body && other.begun < ended) ?? []
      return others.length === 0 ? `${operation.customer} never used key ${operation.key} for another order` : undefined
    }
    default: return undefined
  }
}

function rightRefused (trial: Case, operation: OnOrder, { completion }: Exchange): string | undefined {
  return completion?.problem === 'forbidden' && isOwn(trial, operation) ? 'it is an order of theirs' : undefined
}

const staffs: ReadonlySet<Transition> = new Set(['ship', 'deliver'])

function stepRefused (
  trial: Case,
  operation: OnOrder & { readonly kind: Transition },
  { completion, known, begun, ended = Infinity }: Exchange
): string | undefined {
  const { id, kind, ifMatch, staff } = operation
  if (known === 0) return undefined
  switch (completion?.problem) {
    case 'forbidden': return staffs.has(kind) && staff !== true ? undefined : 'they have the right to it'
    case 'transition-not-allowed': {
      const statuses = statusesFrom(trial, id, known)
      const reached = stateAfter(trial, kind)
      const allowed = (status: string) => status === reached || trial.evidence.transitions?.[status]?.includes(reached) === true
      return statuses !== undefined && statuses.length > 0 && statuses.every(allowed) ? `from ${statuses.join(' or ')} it is allowed` : undefined
    }
    case 'payment-under-way': return trial.told.exchanges.some(({ invocation: { operation }, begun }) => operation.kind === 'pay' && operation.id === id && begun < ended) ? undefined : 'nobody had asked to pay for it'
    case 'version-mismatch': {
      if (ifMatch === undefined) return 'it named no version'
      if (ifMatch === '*') return 'it named any version'
      const last = trial.reads.at(-1)?.byId.get(id)?.[0]
      const named = versionNamed(trial, id, ifMatch)
      // Nothing changed it later, so nothing can have changed it earlier.
      return last !== undefined && last.version === known && named === known ? `it named version ${known}, which there was from before line ${begun} to the end` : undefined
    }
    default: return undefined
  }
}

/** The states that the order may have had from a version on; undefined if that is unknown. */
function statusesFrom (trial: Case, id: string, version: number): string[] | undefined {
  const read = trial.reads.at(-1)
  const [row] = read?.byId.get(id) ?? []
  if (read === undefined || row === undefined || trial.evidence.transitions === undefined) return undefined
  const events = read.events?.get(id)
  if (events === undefined) return row.version === version ? [row.status] : undefined
  return events.flatMap(event => event.version >= version ? event.type : [])
}

function versionNamed ({ told }: Case, id: string, etag: string): number | undefined {
  const order = told.acknowledged.get(id)?.order
  const first = order?.acknowledgements.find(({ completion }) => completion?.order?.id === id)?.completion
  if (first?.etag === etag) return first.order?.version
  return undefined
}
