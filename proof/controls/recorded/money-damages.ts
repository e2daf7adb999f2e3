import type { LedgerLine } from '../../../verify/gateway/ledger.ts'
import { UserError } from '../../../user-error.ts'
import { exchangesIn, type Damaged, type Exchange } from './damaged.ts'
import type { Damage } from './damages.ts'

/** Each is what a service that has its orders paid wrongly would leave behind, here or at the gateway. */
const damages: ReadonlyArray<Omit<Damage, 'record'>> = [
  { name: 'recorded-new-key', broken: 'A charge was retried with a new key', expected: 'chargedTwice', damage: evidence => chargeAgain(evidence, { id: crypto.randomUUID() }) },
  { name: 'recorded-not-asked', broken: 'A charge was retried without asking for its outcome, after the gateway had forgotten its key', expected: 'chargedTwice', damage: evidence => chargeAgain(evidence, {}) },
  {
    name: 'recorded-settled-first',
    broken: 'An order was paid before it was charged',
    expected: 'paidUncharged',
    damage (evidence) {
      const { answer } = paidAtOnce(evidence)
      changeLedger(evidence, line => orderOf(line) === answer.order?.id ? { ...line, at: Math.max(line.at, answer.at + 1) } : line)
    }
  },
  {
    name: 'recorded-another-amount',
    broken: 'A charge was retried with another amount',
    expected: 'paidUncharged',
    damage (evidence) {
      const { answer } = paidAtOnce(evidence)
      changeLedger(evidence, line => 'charge' in line && line.charge.order === answer.order?.id ? { ...line, charge: { ...line.charge, amount: line.charge.amount - 1, captured: line.charge.captured - 1 } } : line)
    }
  },
  {
    name: 'recorded-unknown-declined',
    broken: 'A payment with an unknown outcome was stored as declined',
    expected: 'declinedCharged',
    damage (evidence) {
      const [{ asked: { operation } }] = exchangesIn(evidence.history, 'payment that was unknown and is charged', ({ asked, answer }) => answer.payment !== undefined && isCharged(evidence, answer.payment.id) && asked.operation.kind === 'pay')
      changePayments(evidence, payment => operation.kind === 'pay' && payment.orderId === operation.id && payment.state === 'charged' ? [{ ...payment, state: 'declined' }] : [payment])
    }
  },
  {
    name: 'recorded-shipped-first',
    broken: 'An order was shipped although its money was only authorised',
    expected: 'shippedUnpaid',
    damage (evidence) {
      const [{ answer }] = exchangesIn(evidence.history, 'shipment', ({ asked, answer }) => asked.operation.kind === 'ship' && answer.type === 'ok')
      changeLedger(evidence, line => 'charge' in line && line.charge.order === answer.order?.id ? { ...line, charge: { ...line.charge, state: 'authorised', captured: 0 } } : line)
    }
  },
  {
    name: 'recorded-charged-first',
    broken: 'A charge was requested before its payment was stored, and the service was killed in between',
    expected: 'strayCharge',
    damage (evidence) {
      const { answer } = paidAtOnce(evidence)
      changePayments(evidence, payment => payment.orderId === answer.order?.id ? [] : [payment])
    }
  },
  {
    name: 'recorded-refund-forgotten',
    broken: 'The money of a cancelled order was not refunded',
    expected: 'wrongRefund',
    damage (evidence) {
      const cancelled = new Set(evidence.second?.orders.flatMap(({ id, status }) => status === 'cancelled' ? id : []))
      const id = evidence.second?.refunds?.find(({ orderId, state }) => cancelled.has(orderId) && state === 'refunded')?.orderId
      if (id === undefined) throw new UserError('The recorded run has no cancelled order whose money was given back, and nothing was proved. Record a longer one.')
      for (const read of [evidence.first, evidence.second]) if (read?.refunds) read.refunds = read.refunds.filter(({ orderId }) => orderId !== id)
      evidence.ledger = evidence.ledger?.filter(line => orderOf(line) !== id || ('charge' in line && line.charge.refunded === 0)) ?? []
    }
  },
  {
    name: 'recorded-unsettled',
    broken: 'The outcome of a payment stays unknown',
    expected: 'unsettled',
    damage ({ second }) {
      const payment = second?.payments?.find(({ state }) => state === 'charged')
      if (payment !== undefined) payment.state = 'unknown'
    }
  }
]

export const moneyDamages: readonly Damage[] = damages.map(damage => ({ ...damage, record: 'payments' }))

type Payment = NonNullable<NonNullable<Damaged['second']>['payments']>[number]

/** It was told so at once, and nothing was given back of it. */
function paidAtOnce ({ history, second }: Damaged): Exchange {
  const given = new Set(second?.refunds?.map(({ orderId }) => orderId))
  return exchangesIn(history, 'order that was paid at once', ({ asked, answer }) => asked.operation.kind === 'pay' && answer.order?.status === 'paid' && answer.order.version === 2 && !given.has(asked.operation.id))[0]
}

function isCharged ({ second }: Damaged, payment: string): boolean {
  return second?.payments?.some(({ id, state }) => id === payment && state === 'charged') === true
}

/** Under another reference, just after the first. */
function chargeAgain (evidence: Damaged, other: { readonly id?: string }): void {
  const { answer } = paidAtOnce(evidence)
  evidence.ledger = evidence.ledger?.flatMap(line => 'charge' in line && line.charge.order === answer.order?.id && line.charge.state === 'charged'
    ? [line, { ...line, charge: { ...line.charge, reference: 'ch_again', ...other } }]
    : [line]) ?? []
}

function changeLedger (evidence: Damaged, by: (line: LedgerLine) => LedgerLine): void {
  evidence.ledger = evidence.ledger?.map(by) ?? []
}

/** In every read. */
function changePayments ({ first, second }: Damaged, by: (payment: Payment) => Payment[]): void {
  for (const read of [first, second]) if (read?.payments) read.payments = read.payments.flatMap(by)
}

function orderOf (line: LedgerLine): string {
  return 'charge' in line ? line.charge.order : line.refund.order
}
