import type { LedgerCharge, LedgerLine, LedgerRefund } from '../gateway/ledger.ts'
import { isOnOrder, type Time } from '../history.ts'
import type { OrderStored } from '../target.ts'
import { type Case, type Looked, noRead, stateOf, subjectOf, subjectOfRow } from './case.ts'
import { isOpen, type Stored } from './stored.ts'

const noLedger = { looked: null, because: 'The service did not use a gateway of the harness.' } as const satisfies Looked
const noPayments = { looked: null, because: 'The target does not report payments.' } as const satisfies Looked

/** One charge by the ledger: its last state, and the time of each state. Infinity: never. */
interface Charge {
  readonly last: LedgerCharge
  /** When it was authorised or charged. */
  readonly takenAt: Time
  readonly capturedAt: Time
  readonly declinedAt: Time
  /** When no money was taken any more. */
  readonly overAt: Time
  /** In minor units: the captured amount less the refunds. */
  readonly left: number
}

/** The charges and refunds of the gateway for one order. */
interface Books {
  readonly charges: readonly Charge[]
  /** In their last state. */
  readonly refunds: ReadonlyArray<LedgerRefund & { readonly at: Time }>
}

const noBooks: Books = { charges: [], refunds: [] }

/** Two charges of an order are never active at once, and together they keep no more than its total. */
export function chargedTwice (trial: Case): Looked {
  const { ledger, findings } = trial
  if (ledger === undefined) return noLedger
  const books = booksOf(ledger)
  for (const [id, { charges }] of books) {
    const taken = charges.filter(({ takenAt }) => takenAt < Infinity).toSorted((a, b) => a.takenAt - b.takenAt)
    const twice = taken.find((charge, i) => taken.some((other, j) => j < i && charge.takenAt < other.overAt))
    const total = rowOf(trial, id)?.total
    const left = taken.reduce((sum, charge) => sum + charge.left, 0)
    const all = taken.map(({ last: { amount, currency, reference } }) => `${amount} ${currency} (${reference})`).join(' and ')
    if (twice !== undefined) findings.add('chargedTwice', subjectOf(trial, id), `Order ${id} was charged ${taken.length} times: ${all}.`)
    else if (total !== undefined && left > total) findings.add('chargedTwice', subjectOf(trial, id), `Of order ${id}, which comes to ${total}, ${left} are charged: ${all}.`)
  }
  return { looked: books.size }
}

/** Every statement that an order is paid rests on a charge. */
export function paidUncharged (trial: Case): Looked {
  const { ledger, reads, told, findings } = trial
  if (ledger === undefined) return noLedger
  const books = booksOf(ledger)
  const paid = paidStates(trial)
  const last = reads.at(-1)
  let looked = 0
  for (const row of last?.snapshot.orders ?? []) {
    if (!paid.has(row.status) || row.total === 0) continue
    looked++
    const { charges } = books.get(row.id) ?? noBooks
    if (!charges.some(charge => isOf(row, charge))) findings.add('paidUncharged', subjectOfRow(row), `Order ${row.id} is ${row.status}, comes to ${row.total} ${row.currency}, and the gateway has ${inWords(charges)} of it.`)
  }
  for (const { id, orderId, state, amount } of last?.snapshot.payments ?? []) {
    if ((state !== 'charged' && state !== 'authorised') || amount === 0) continue
    looked++
    const charges = (books.get(orderId) ?? noBooks).charges.filter(charge => charge.last.id === id)
    if (!charges.some(({ takenAt }) => takenAt < Infinity)) findings.add('paidUncharged', subjectOf(trial, orderId), `Payment ${id} of order ${orderId} is stored as ${state}, and the gateway has ${inWords(charges)} of that id.`)
  }
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    const order = completion?.type === 'ok' && isOnOrder(operation) ? completion.order : undefined
    if (order === undefined || completion === undefined || !paid.has(order.status) || order.total === 0) continue
    looked++
    const { charges } = books.get(order.id) ?? noBooks
    if (!charges.some(({ takenAt }) => takenAt <= completion.at)) findings.add('paidUncharged', subjectOf(trial, order.id), `${operation.customer} was told that order ${order.id} is ${order.status}, and the gateway had ${inWords(charges)} of it by then.`, exchange)
  }
  return { looked }
}

/** Every statement that a payment was declined rests on a decline of the gateway. */
export function declinedCharged (trial: Case): Looked {
  const { ledger, reads, told, findings } = trial
  if (ledger === undefined) return noLedger
  const books = booksOf(ledger)
  let looked = 0
  for (const { id, orderId, state } of reads.at(-1)?.snapshot.payments ?? []) {
    if (state !== 'declined') continue
    looked++
    const charge = (books.get(orderId) ?? noBooks).charges.find(({ last, takenAt, overAt }) => last.id === id && takenAt < Infinity && overAt === Infinity)
    if (charge !== undefined) findings.add('declinedCharged', subjectOf(trial, orderId), `Payment ${id} of order ${orderId} is stored as declined, and the gateway has ${inWords([charge])} of that id.`)
  }
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (operation.kind !== 'pay' || completion?.type !== 'fail' || completion.problem !== 'payment-declined') continue
    looked++
    const { charges } = books.get(operation.id) ?? noBooks
    if (!charges.some(({ declinedAt }) => declinedAt <= completion.at)) findings.add('declinedCharged', subjectOf(trial, operation.id), `${operation.customer} was told that the payment of order ${operation.id} was declined, and the gateway had ${inWords(charges)} of it by then.`, exchange)
  }
  return { looked }
}

/** The whole amount was captured, at the latest when an answer said that the order is shipped. */
export function shippedUnpaid (trial: Case): Looked {
  const { ledger, reads, told, findings } = trial
  if (ledger === undefined) return noLedger
  const books = booksOf(ledger)
  const shipped = new Set([stateOf(trial, 'shipped'), stateOf(trial, 'delivered')])
  const isCaptured = (id: string, total: number, by: Time): boolean =>
    (books.get(id) ?? noBooks).charges.some(({ last, capturedAt }) => capturedAt <= by && last.captured >= total)
  let looked = 0
  for (const row of reads.at(-1)?.snapshot.orders ?? []) {
    if (!shipped.has(row.status) || row.total === 0) continue
    looked++
    if (!isCaptured(row.id, row.total, Number.MAX_VALUE)) findings.add('shippedUnpaid', subjectOfRow(row), `Order ${row.id} is ${row.status}, and its ${row.total} ${row.currency} were not taken: the gateway has ${inWords(books.get(row.id)?.charges ?? [])} of it.`)
  }
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    const order = completion?.type === 'ok' && isOnOrder(operation) ? completion.order : undefined
    if (order === undefined || completion === undefined || !shipped.has(order.status) || order.total === 0) continue
    looked++
    if (!isCaptured(order.id, order.total, completion.at)) findings.add('shippedUnpaid', subjectOf(trial, order.id), `${operation.customer} was told that order ${order.id} is ${order.status}, and its ${order.total} ${order.currency} were not taken by then.`, exchange)
  }
  return { looked }
}

/** The service had stored every charge and refund of the gateway, with its order, before it called the gateway. */
export function strayCharge (trial: Case): Looked {
  const { ledger, reads, findings } = trial
  if (ledger === undefined) return noLedger
  const last = reads.at(-1)
  if (last === undefined) return noRead
  const { payments, refunds } = last
  if (payments === undefined || refunds === undefined) return noPayments
  let looked = 0
  for (const [id, books] of booksOf(ledger)) {
    const isStored = last.byId.has(id)
    for (const { last: charge } of books.charges) {
      looked++
      const payment = payments.get(charge.id)
      const says = !isStored ? 'there is no such order' : payment === undefined ? 'no such payment is stored' : payment.orderId !== id ? `that is a payment of order ${payment.orderId}` : undefined
      if (says !== undefined) findings.add('strayCharge', subjectOf(trial, id), `The gateway charged ${charge.amount} ${charge.currency} for order ${id} as ${charge.id}, and ${says}.`)
    }
    for (const { id: refundId, charge, amount, currency } of books.refunds) {
      looked++
      const refund = refunds.get(refundId)
      const says = refund === undefined ? 'no such refund is stored' : refund.paymentId !== charge ? `that is a refund of payment ${refund.paymentId}` : undefined
      if (says !== undefined) findings.add('strayCharge', subjectOf(trial, id), `The gateway was to refund ${amount} ${currency} of order ${id} as ${refundId}, and ${says}.`)
    }
  }
  return { looked }
}

/** A cancelled order leaves nothing charged. The gateway made every refund that is stored or was promised. No refund was made without a request. */
export function wrongRefund (trial: Case): Looked {
  const { ledger, reads, findings } = trial
  if (ledger === undefined) return noLedger
  const last = reads.at(-1)
  if (last === undefined) return noRead
  if (last.refunds === undefined) return noPayments
  const books = booksOf(ledger)
  const cancelled = stateOf(trial, 'cancelled')
  let looked = 0
  for (const row of last.snapshot.orders) {
    if (row.status !== cancelled) continue
    looked++
    const kept = (books.get(row.id) ?? noBooks).charges.filter(({ last: { state }, left }) => left > 0 || state === 'authorised')
    if (kept.length > 0) findings.add('wrongRefund', subjectOfRow(row), `Order ${row.id} is cancelled, and the gateway still has ${inWords(kept)} of it.`)
  }
  for (const { id, orderId, amount, state } of last.snapshot.refunds ?? []) {
    looked++
    const given = (books.get(orderId) ?? noBooks).refunds.filter(refund => refund.id === id)
    const says = state === 'refunded' && !given.some(refund => refund.state === 'refunded' && refund.amount === amount)
      ? 'the gateway has not given that back'
      : state === 'failed' && given.some(refund => refund.state !== 'failed') ? 'the gateway has given it back' : given.length > 1 ? `the gateway has given it back ${given.length} times` : undefined
    if (says !== undefined) findings.add('wrongRefund', subjectOf(trial, orderId), `Refund ${id} of ${amount} of order ${orderId} is stored as ${state}, and ${says}.`)
  }
  return { looked: looked + promised(trial, last) + unaskedRefunds(trial, last, cancelled) }
}

/** The answers to staff about refunds. */
function promised (trial: Case, last: Stored): number {
  const { told, findings } = trial
  const ids = new Map<string, string>()
  let looked = 0
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (operation.kind !== 'refund' || completion?.type !== 'ok' || completion.refund === undefined) continue
    looked++
    const { id, amount } = completion.refund
    const name = `${operation.customer}\n${operation.key}`
    const first = ids.get(name)
    ids.set(name, id)
    const stored = last.refunds?.get(id)
    const says = first !== undefined && first !== id
      ? `as ${first} and as ${id}`
      : stored?.orderId !== operation.id
        ? `as ${id}, and no such refund of it is stored`
        : stored.amount !== amount || (operation.amount !== undefined && operation.amount !== amount) ? `of ${amount}, ${operation.amount ?? 'all'} were asked for, and ${stored.amount} are stored` : undefined
    if (says !== undefined) findings.add('wrongRefund', subjectOf(trial, operation.id), `${operation.customer} was acknowledged a refund of order ${operation.id} for key ${operation.key} ${says}.`, exchange)
  }
  return looked
}

/** Whether an order that was not cancelled has more refunds than keys that asked for them. */
function unaskedRefunds (trial: Case, last: Stored, cancelled: string): number {
  const asked = new Map<string, Set<string>>()
  for (const { invocation: { operation }, completion } of trial.told.exchanges) {
    if (operation.kind !== 'refund' || completion?.type === 'fail') continue
    const keys = asked.get(operation.id)
    if (keys === undefined) asked.set(operation.id, new Set([operation.key]))
    else keys.add(operation.key)
  }
  const byOrder = Map.groupBy(last.snapshot.refunds ?? [], ({ orderId }) => orderId)
  for (const [id, refunds] of byOrder) {
    const keys = asked.get(id)?.size ?? 0
    if (rowOf(trial, id)?.status !== cancelled && refunds.length > keys) trial.findings.add('wrongRefund', subjectOf(trial, id), `Order ${id} is not cancelled, and has ${refunds.length} refunds: ${refunds.map(refund => refund.id).join(', ')}. ${keys} were asked for.`)
  }
  return byOrder.size
}

/** No payment or refund is still open, and each one that an answer announced is stored. */
export function unsettled (trial: Case): Looked {
  const { reads, told, ledger, findings } = trial
  const rest = reads.find(({ afterSettling }) => afterSettling)
  if (rest === undefined) return noRead
  if (rest.payments === undefined) return noPayments
  const { payments = [], refunds = [] } = rest.snapshot
  const books = ledger && booksOf(ledger)
  for (const [what, entries] of [['Payment', payments], ['Refund', refunds]] as const) {
    for (const entry of entries) {
      const { id, orderId, state } = entry
      const { charges, refunds } = books?.get(orderId) ?? noBooks
      // A customer may take their time to confirm, but not with the harness's gateway.
      const isStillPending = state === 'pending' && (books === undefined || [...charges.map(({ last }) => last), ...refunds].some(of => of.id === id && of.state === 'pending'))
      if (isOpen(entry) && !isStillPending) findings.add('unsettled', subjectOf(trial, orderId), `${what} ${id} of order ${orderId} is still ${state}, long after the faults.`)
    }
  }
  let promised = 0
  for (const exchange of told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (completion?.payment === undefined || !isOnOrder(operation)) continue
    promised++
    const { id } = completion.payment
    if (rest.payments.get(id)?.orderId !== operation.id) findings.add('unsettled', subjectOf(trial, operation.id), `${operation.customer} was told to wait for payment ${id} of order ${operation.id}, and no such payment of it is stored.`, exchange)
  }
  return { looked: payments.length + refunds.length + promised }
}

function paidStates (trial: Case): ReadonlySet<string> {
  return new Set((['paid', 'shipped', 'delivered'] as const).map(name => stateOf(trial, name)))
}

function rowOf ({ reads }: Case, id: string): OrderStored | undefined {
  return reads.at(-1)?.byId.get(id)?.[0]
}

function isOf ({ total, currency }: OrderStored, { last, takenAt }: Charge): boolean {
  return takenAt < Infinity && (last.state === 'charged' || last.state === 'authorised') && last.amount === total && last.currency === currency
}

function inWords (charges: readonly Charge[]): string {
  return charges.length === 0 ? 'no charge' : charges.map(({ last: { state, amount, currency, refunded } }) => `${amount} ${currency} ${state}${refunded > 0 ? ` (${refunded} refunded)` : ''}`).join(', ')
}

/** By order. */
function booksOf (ledger: readonly LedgerLine[]): Map<string, Books> {
  const orderOf = (line: LedgerLine): string => 'charge' in line ? line.charge.order : line.refund.order
  return new Map([...Map.groupBy(ledger, orderOf)].map(([id, lines]) => {
    const refunds = [...Map.groupBy(lines.flatMap(line => 'refund' in line ? { at: line.at, ...line.refund } : []), ({ reference }) => reference).values()].flatMap(states => states.at(-1) ?? [])
    const charges = [...Map.groupBy(lines.flatMap(line => 'charge' in line ? { at: line.at, ...line.charge } : []), ({ reference }) => reference).values()]
    return [id, { refunds, charges: charges.flatMap(states => chargeOf(states, refunds)) }]
  }))
}

function chargeOf (states: ReadonlyArray<LedgerCharge & { readonly at: Time }>, refunds: Books['refunds']): Charge[] {
  const [last] = states.slice(-1)
  if (last === undefined) return []
  const when = (is: (charge: LedgerCharge) => boolean): Time => states.find(is)?.at ?? Infinity
  return [{
    last,
    takenAt: when(({ state }) => state === 'authorised' || state === 'charged'),
    capturedAt: when(({ state }) => state === 'charged'),
    declinedAt: when(({ state }) => state === 'declined'),
    overAt: when(({ state, captured, refunded }) => state === 'voided' || (state === 'charged' && refunded >= captured)),
    left: last.captured - refunds.reduce((sum, { of, state, amount }) => sum + (of === last.reference && state === 'refunded' ? amount : 0), 0)
  }]
}
