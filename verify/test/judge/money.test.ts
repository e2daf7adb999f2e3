import fc from 'fast-check'
import t from 'tap'
import type { LedgerCharge, LedgerLine, LedgerRefund } from '../../gateway/ledger.ts'
import type { Line, Operation } from '../../history.ts'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import type { OrderStored, PaymentStored, RefundStored, Snapshot } from '../../target.ts'
import type { Invariant } from '../../verdict.ts'
import { evidence, withMoney } from './true-history.ts'

const total = 520
const money: readonly Invariant[] = ['chargedTwice', 'paidUncharged', 'declinedCharged', 'shippedUnpaid', 'strayCharge', 'wrongRefund', 'unsettled']

/** The stored data of one order, and the answers about it. */
interface Story {
  status?: string
  payments?: PaymentStored[]
  refunds?: RefundStored[]
  ledger?: LedgerLine[]
  told?: Array<[operation: Operation, answer: object]>
}

const order: OrderStored = { id: 'o1', customer: 'alice', key: 'k1', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'ale', quantity: 1, unitPrice: total }], total, reference: null }
const payment: PaymentStored = { id: 'p1', orderId: 'o1', amount: total, currency: 'EUR', state: 'charged' }
const refund: RefundStored = { id: 'r1', paymentId: 'p1', orderId: 'o1', amount: total, currency: 'EUR', state: 'refunded' }
const pay: Operation = { kind: 'pay', customer: 'alice', id: 'o1' }
const ship: Operation = { kind: 'ship', customer: 'staff', staff: true, id: 'o1' }
const giveBack: Operation = { kind: 'refund', customer: 'staff', staff: true, id: 'o1', key: 'k', amount: 20 }

/** A charge at 10, answered at 20. */
const paid: Story = { status: 'paid', payments: [payment], ledger: [charge(10)], told: [[pay, ok('paid')]] }
const declined: Story = { payments: [{ ...payment, state: 'declined' }], ledger: [charge(10, { state: 'declined', captured: 0 })], told: [[pay, { type: 'fail', status: 402, problem: 'payment-declined' }]] }
const unknown: Story = { ...paid, told: [[pay, { type: 'info', status: 202, payment: { id: 'p1', state: 'unknown' } }]] }
const cancelled: Story = { status: 'cancelled', payments: [payment], refunds: [refund], ledger: [charge(10), charge(30, { refunded: total }), refunded(31)], told: [[pay, ok('paid')], [{ kind: 'cancel', customer: 'alice', id: 'o1' }, ok('cancelled', 3)]] }
const shipped: Story = { ...paid, status: 'shipped', told: [[pay, ok('paid')], [ship, ok('shipped', 3)]] }
const inPart: Story = { ...paid, refunds: [{ ...refund, amount: 20 }], ledger: [charge(10), charge(12, { refunded: 20 }), refunded(13, { amount: 20 })], told: [[pay, ok('paid')], [giveBack, { type: 'ok', status: 201, refund: { id: 'r1', state: 'refunded', amount: 20 } }]] }
const atShipment: Story = {
  ...shipped,
  ledger: [charge(10, { capture: false, state: 'authorised', captured: 0 }), charge(15, { capture: false })]
}
const free: Story = { status: 'delivered', told: [] }

for (const [name, story] of Object.entries({ paid, declined, unknown, cancelled, shipped, inPart, atShipment })) {
  t.test(`no fault is found with an order that is ${name}`, async t => t.strictSame(brokenIn(story), []))
}

t.test('an order may be charged again after a decline or a void, and nothing is left after a full refund', async t => {
  const second = { ...payment, id: 'p2' }
  t.strictSame(brokenIn({ ...paid, payments: [{ ...payment, state: 'declined' }, second], ledger: [charge(5, { state: 'declined', captured: 0 }), charge(10, { id: 'p2', reference: 'ch2' })] }), [])
  t.strictSame(brokenIn({ ...paid, payments: [{ ...payment, state: 'voided' }, second], ledger: [charge(5, { state: 'authorised', captured: 0 }), charge(8, { state: 'voided', captured: 0 }), charge(10, { id: 'p2', reference: 'ch2' })] }), [])
})

t.test('a second charge is found, under another id or the same one, even if it was refunded afterwards', async t => {
  t.strictSame(brokenIn({ ...paid, ledger: [charge(10), charge(11, { id: 'p2', reference: 'ch2' })] }), ['chargedTwice', 'strayCharge'])
  t.strictSame(brokenIn({ ...paid, ledger: [charge(10), charge(11, { reference: 'ch2' })] }), ['chargedTwice'])
  t.ok(brokenIn({ ...paid, ledger: [charge(10), charge(11, { reference: 'ch2' }), charge(12, { reference: 'ch2', refunded: total })] }).includes('chargedTwice'))
})

t.test('a paid order without its charge is found: no charge, another amount, another currency, or too late', async t => {
  t.strictSame(brokenIn({ ...paid, ledger: [] }), ['paidUncharged'])
  t.strictSame(brokenIn({ ...paid, ledger: [charge(10, { amount: total - 1, captured: total - 1 })] }), ['paidUncharged'])
  t.strictSame(brokenIn({ ...paid, ledger: [charge(10, { currency: 'GBP' })] }), ['paidUncharged'])
  t.strictSame(brokenIn({ ...paid, ledger: [charge(25)] }), ['paidUncharged'])
  t.ok(brokenIn({ ...paid, ledger: [charge(10, { amount: total + 1, captured: total + 1 })] }).includes('chargedTwice'))
  t.strictSame(brokenIn({ ...declined, payments: [payment], told: [] }), ['paidUncharged'], 'the stored payment alone shows it')
})

t.test('an order that is called declined is found if the gateway charged it, or never declined it', async t => {
  t.strictSame(brokenIn({ ...declined, ledger: [charge(10)] }), ['declinedCharged'])
  t.strictSame(brokenIn({ ...declined, ledger: [charge(10)], told: [] }), ['declinedCharged'])
  t.strictSame(brokenIn({ ...declined, payments: [], ledger: [] }), ['declinedCharged'], 'no charge was declined')
})

t.test('an order that is shipped before its money is captured is found', async t => {
  t.strictSame(brokenIn({ ...shipped, ledger: [charge(10, { state: 'authorised', captured: 0 })] }), ['shippedUnpaid'])
  t.strictSame(brokenIn({ ...atShipment, ledger: [charge(10, { state: 'authorised', captured: 0 }), charge(35)] }), ['shippedUnpaid'], 'the order was shipped before the capture')
  t.ok(brokenIn({ ...shipped, ledger: [] }).includes('shippedUnpaid'))
})

t.test('a charge or refund that no stored payment or refund explains is found', async t => {
  t.ok(brokenIn({ ...paid, payments: [] }).includes('strayCharge'))
  t.strictSame(brokenIn({ ...paid, ledger: [charge(10), charge(11, { id: 'p9', reference: 'ch9', order: 'o9' })] }), ['strayCharge'])
  t.ok(brokenIn({ ...inPart, refunds: [], told: [[pay, ok('paid')]] }).includes('strayCharge'))
})

t.test('money that is kept, or refunded without a request, is found', async t => {
  t.strictSame(brokenIn({ ...cancelled, refunds: [], ledger: [charge(10)] }), ['wrongRefund'])
  t.strictSame(brokenIn({ ...cancelled, ledger: [charge(10), charge(30, { refunded: total }), refunded(31, { state: 'pending' })] }), ['wrongRefund'])
  t.strictSame(brokenIn({ ...inPart, ledger: [charge(10)] }), ['wrongRefund'])
  t.strictSame(brokenIn({ ...inPart, refunds: [], ledger: [charge(10)] }), ['wrongRefund'])
  t.strictSame(brokenIn({ ...inPart, told: [[pay, ok('paid')]] }), ['wrongRefund'])
  const again: [Operation, object] = [giveBack, { type: 'ok', status: 201, refund: { id: 'r2', state: 'refunded', amount: 20 } }]
  t.strictSame(brokenIn({ ...inPart, told: [...inPart.told ?? [], again] }), ['wrongRefund'], 'one key has two refunds')
})

t.test('a payment that is unsettled at the end is found, and so is one that a customer waits for in vain', async t => {
  for (const state of ['requested', 'unknown', 'capturing', 'voiding'] as const) t.strictSame(brokenIn({ ...declined, ledger: [], told: [], payments: [{ ...payment, state }] }), ['unsettled'], state)
  t.strictSame(brokenIn({ ...unknown, status: 'placed', payments: [{ ...payment, state: 'pending' }] }), ['unsettled'], 'the gateway has charged the pending payment')
  t.strictSame(brokenIn({ ...unknown, status: 'placed', payments: [{ ...payment, state: 'pending' }], ledger: [charge(10, { state: 'pending', captured: 0 })] }), [], 'the gateway has not decided yet')
  t.strictSame(brokenIn({ ...inPart, refunds: [{ ...refund, amount: 20, state: 'unknown' }] }), ['unsettled'])
  t.strictSame(brokenIn({ ...unknown, told: [[pay, { type: 'info', status: 202, payment: { id: 'p9', state: 'unknown' } }]] }), ['unsettled'])
})

t.test('no fault is found in any history in which paid orders are charged and cancelled orders refunded', async t => {
  const run = fc.check(fc.property(evidence, whole => judge(withMoney(whole)).verdict === 'held'), { numRuns: 20, endOnFailure: true })
  t.match(run, { failed: false }, { seed: run.seed, path: run.counterexamplePath })
})

t.test('an order that costs nothing needs no charge', async t => t.strictSame(brokenIn(free, 0), []))

t.test('without a ledger of the harness, or without payments from the target, money is not checked, and the verdict says why', async t => {
  const { ledger, ...whole } = evidenceOf(paid)
  for (const { invariant, looked, because } of judge(whole).checked) if (money.includes(invariant) && invariant !== 'unsettled') t.match({ looked, because }, { looked: null, because: /did not use a gateway of the harness/ })
  t.match(judge({ ...whole, second: { orders: [] } }).checked.find(({ invariant }) => invariant === 'unsettled'), { looked: null, because: 'The target does not report payments.' })
})

t.test('a counterexample has the order, its payments and its ledger lines', async t => {
  const { counterexamples } = judge(evidenceOf({ ...paid, ledger: [charge(10), charge(11, { reference: 'ch2' })] }))
  const shown = counterexamples.find(({ invariant }) => invariant === 'chargedTwice')
  t.match(shown, { orderId: 'o1', says: /Order o1 was charged 2 times: 520 EUR \(ch1\) and 520 EUR \(ch2\)\./ })
  t.match(shown?.stored, [{}, { read: 'second', orders: [{ id: 'o1' }], payments: [{ id: 'p1' }], refunds: [] }, { ledger: [{ charge: { reference: 'ch1' } }, { charge: { reference: 'ch2' } }] }])
})

function charge (at: number, of: Partial<LedgerCharge> = {}): LedgerLine {
  return { at, charge: { id: 'p1', reference: 'ch1', order: 'o1', customer: 'alice', amount: total, currency: 'EUR', capture: true, state: 'charged', captured: total, refunded: 0, ...of } }
}

function refunded (at: number, of: Partial<LedgerRefund> = {}): LedgerLine {
  return { at, refund: { id: 'r1', reference: 're1', charge: 'p1', of: 'ch1', order: 'o1', amount: total, currency: 'EUR', state: 'refunded', ...of } }
}

function ok (status: string, version = 2): object {
  return { type: 'ok', status: 200, order: { ...order, status, version } }
}

function brokenIn (story: Story, price = total): Invariant[] {
  return judge(evidenceOf(story, price)).checked.flatMap(({ invariant, broken }) => broken > 0 && money.includes(invariant) ? invariant : [])
}

/** The exchanges begin at 15, 25, 35 … and are answered 5 later. */
function evidenceOf ({ status = 'placed', payments = [], refunds = [], ledger = [], told = [] }: Story, price = total): Evidence {
  const place: Operation = { kind: 'place', customer: 'alice', key: 'k1', order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } }
  const exchanges = [[place, { type: 'ok', status: 201, order: { ...order, total: price } }] as const, ...told]
  const history = exchanges.flatMap(([operation, answer], i): Line[] => [
    { type: 'invoke', op: i + 1, at: 10 * i + 5, scheduled: 10 * i + 5, purpose: 'new', operation },
    { op: i + 1, at: 10 * i + 10, ...answer } as Line
  ])
  const read: Snapshot = { orders: [{ ...order, status, total: price }], payments, refunds }
  return {
    scenario: 'payments',
    target: 'model',
    seed: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    duration: 100,
    environment: {},
    faults: [],
    transitions: undefined,
    products: [{ sku: 'ale', name: 'Ale', unitPrice: price, currency: 'EUR', stock: 10 }],
    history,
    settle: [],
    first: read,
    second: read,
    ledger,
    needed: { faultsInFlight: 0 }
  }
}
