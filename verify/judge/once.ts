import { type Case, type Looked, stateOf, subjectOf, subjectOfRow } from './case.ts'
import { answers } from './problems.ts'
import { type Attempt, idsOn, type Order } from './told.ts'

/** One key makes one order, and each order exists once. */
export function duplicated (trial: Case): Looked {
  const { told, reads, findings } = trial
  let looked = 0
  for (const { byKey, byId } of reads) {
    for (const rows of byKey.values()) {
      looked++
      const [row] = rows
      if (row && rows.length > 1) findings.add('duplicated', subjectOfRow(row), `Key ${row.key} of ${row.customer} is stored ${rows.length} times: ${rows.map(({ id }) => id).join(', ')}.`)
    }
    for (const [id, rows] of byId) {
      const [row] = rows
      if (row && rows.length > 1) findings.add('duplicated', subjectOfRow(row), `Order ${id} is stored ${rows.length} times.`)
    }
  }
  for (const { customer, key, acknowledgements } of told.orders.values()) {
    if (acknowledgements.length === 0) continue
    looked++
    const ids = new Set(acknowledgements.flatMap(({ completion }) => completion?.order?.id ?? []))
    if (ids.size > 1) findings.add('duplicated', { customer, key }, `Key ${key} of ${customer} was acknowledged as ${ids.size} orders: ${[...ids].join(', ')}.`)
  }
  for (const exchange of told.exchanges) {
    const ids = exchange.completion && idsOn(exchange.completion)
    if (!ids) continue
    looked++
    if (new Set(ids).size === ids.length) continue
    const twice = ids.find((id, place) => ids.indexOf(id) !== place) ?? ''
    findings.add('duplicated', subjectOf(trial, twice), `Order ${twice} is more than once on one page.`, exchange)
  }
  return { looked }
}

/** ms after a fault in which a service may still notice that a connection of its own is gone. */
const aftermath = 10_000

/** Every retry gets the first answer: placed, version 1, whatever happened to the order since. And the answer says that it is a retry's. */
export function replayMismatch (trial: Case): Looked {
  let looked = 0
  for (const order of trial.told.orders.values()) {
    const [first] = order.acknowledgements
    if (!first) continue
    for (const attempt of order.attempts) {
      looked++
      const difference = unlikeFirst(trial, attempt, first) ?? mismarked(trial, order, attempt)
      if (difference) trial.findings.add('replayMismatch', subjectOfAttempt(order, first), `Key ${order.key} of ${order.customer}: ${difference}.`)
    }
  }
  return { looked }
}

function unlikeFirst (trial: Case, attempt: Attempt, first: Attempt): string | undefined {
  const { completion, known, body } = attempt
  if (completion?.type === 'fail') {
    // A concurrent request may have been decided before the first one; then the refusal was true.
    const again = known > 0 && body === first.body
    return again && completion.problem !== undefined && answers.has(completion.problem) ? `a retry was refused as ${completion.problem} after the order had been acknowledged` : undefined
  }
  if (completion?.type !== 'ok') return undefined
  if (body !== first.body) return 'it was acknowledged for two different bodies'
  const order = completion.order
  if (!order) return undefined
  const placed = stateOf(trial, 'placed')
  if (order.status !== placed || order.version !== 1) return `it was acknowledged as ${order.status}, version ${order.version}, which should be ${placed}, version 1`
  // Without the id: two ids for one key are a duplicate.
  const now = answerOf(trial, attempt)
  const then = answerOf(trial, first)
  return then !== undefined && now !== then ? `it was first acknowledged as ${then}, and then as ${now}` : undefined
}

/** Compares the whole answer, with the headers that the service is held to. */
function answerOf ({ features }: Case, { completion }: Attempt): string | undefined {
  if (!completion?.order) return undefined
  const { order: { currency, items, total, reference, customer, createdAt }, status, etag, location } = completion
  return JSON.stringify([
    currency, total, reference, items.map(({ sku, quantity, unitPrice }) => [sku, quantity, unitPrice]),
    ...customer === undefined ? [] : [customer], ...createdAt === undefined ? [] : [createdAt],
    ...features.has('etag') ? [etag] : [], ...features.has('location') ? [location, status] : []
  ])
}

/** The answer to a retry is marked as such, and no first answer is. */
function mismarked ({ evidence, features }: Case, { attempts }: Order, attempt: Attempt): string | undefined {
  const { invocation, completion, known, ended = Infinity } = attempt
  if (completion?.type !== 'ok' || !features.has('replayed')) return undefined
  if (known > 0 && completion.replayed !== true) return 'a retry was answered as if it were the first'
  const alone = attempts.every(other => other === attempt || other.begun > ended || neverLeft(other))
  // A service that lost the answer of its database retries internally, and finds what it had stored.
  const met = (): boolean => evidence.faults.some(({ at, recoveredAt = at }) => at <= completion.at && invocation.at <= recoveredAt + aftermath)
  return completion.replayed === true && alone && !met() ? 'it was answered as a retry, and nobody had asked before' : undefined
}

/** Whether no byte of it was sent. */
function neverLeft ({ completion }: Attempt): boolean {
  return completion?.type === 'fail' && completion.status === undefined
}

function subjectOfAttempt ({ customer, key }: Order, { completion }: Attempt) {
  const id = completion?.order?.id
  return { customer, key, ...id !== undefined && { orderId: id } }
}
