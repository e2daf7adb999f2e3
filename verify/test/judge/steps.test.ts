import { test } from 'tap'
import type { Completion, Line, OnOrder, Operation } from '../../history.ts'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import type { Invariant } from '../../verdict.ts'
import { exchanges, isCaught } from './damage.ts'

const order = { id: 'order-1', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'ale', quantity: 1, unitPrice: 520 }], total: 520, reference: null }
const transitions = { placed: ['paid', 'cancelled'], paid: ['shipped', 'cancelled'], shipped: ['delivered'] }

type Answer = Partial<Completion> & { readonly at?: never }

/** One order of alice, and the following requests and answers, one after another. */
function history (...then: Array<[Partial<OnOrder> & { kind: OnOrder['kind'] }, Answer]>): Line[] {
  const place: Operation = { kind: 'place', customer: 'alice', key: 'a', order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } }
  const asked: Array<[Operation, Answer]> = [
    [place, { type: 'ok', status: 201, order, etag: '"1"' }],
    ...then.map(([operation, answer]): [Operation, Answer] => [{ customer: 'alice', id: 'order-1', ...operation }, answer])
  ]
  return asked.flatMap(([operation, answer], i): Line[] => [
    { type: 'invoke', op: i + 1, at: i, scheduled: i, purpose: 'transition', operation },
    { type: 'fail', op: i + 1, at: i + 0.5, ...answer }
  ])
}

function brokenIn (lines: Line[], became: readonly string[], more: Partial<Evidence> = {}): Invariant[] {
  const read = {
    orders: [{ ...order, customer: 'alice', key: 'a', status: became.at(-1) ?? 'placed', version: became.length + 1 }],
    events: ['placed', ...became].map((type, i) => ({ orderId: 'order-1', version: i + 1, type, delivered: true }))
  }
  const { checked } = judge({
    scenario: 'model',
    target: 'model',
    seed: 0,
    startedAt: '',
    duration: 0,
    environment: {},
    history: lines,
    settle: [],
    faults: [],
    products: [{ sku: 'ale', name: 'Ale', unitPrice: 520, currency: 'EUR', stock: 9 }],
    first: read,
    second: read,
    transitions,
    features: ['etag', 'if-match', 'staff'],
    needed: { faultsInFlight: 0 },
    ...more
  })
  return checked.flatMap(({ invariant, broken }) => broken > 0 ? invariant : [])
}

const ok = (status: string, version: number): Answer => ({ type: 'ok', status: 200, order: { ...order, status, version }, etag: `"${version}"` })

test('a transition whose answer shows that nothing happened is wrong', async t => {
  t.same(brokenIn(history([{ kind: 'pay' }, ok('placed', 1)]), []), ['wrongTransition'])
  t.same(brokenIn(history([{ kind: 'pay' }, ok('paid', 2)]), ['paid']), [])
})

test('a transition that is acknowledged for an order that never made it is wrong', async t => {
  t.same(brokenIn(history([{ kind: 'cancel' }, ok('cancelled', 2)], [{ kind: 'pay' }, ok('cancelled', 2)]), ['cancelled']), ['wrongTransition'])
})

test('the answer to a transition may show a later state of the order', async t => {
  t.same(brokenIn(history([{ kind: 'cancel' }, { type: 'info' }], [{ kind: 'pay' }, ok('cancelled', 3)]), ['paid', 'cancelled']), [])
})

test('a customer who can ship is wrong, and staff who ship are right', async t => {
  const paid = [{ kind: 'pay' }, ok('paid', 2)] as const
  t.same(brokenIn(history([...paid], [{ kind: 'ship' }, ok('shipped', 3)]), ['paid', 'shipped']), ['wrongTransition'])
  t.same(brokenIn(history([...paid], [{ kind: 'ship' }, ok('shipped', 3)]), ['paid', 'shipped'], { features: [] }), [], 'a service without staff lets customers ship')
  t.same(brokenIn(history([...paid], [{ kind: 'ship', customer: 'staff', staff: true }, ok('shipped', 3)]), ['paid', 'shipped']), [])
})

test('a transition at a version other than that of If-Match is wrong', async t => {
  for (const [ifMatch, broken] of [['"1"', []], ['*', []], ['"of-no-version"', ['wrongTransition']]] as const) {
    t.same(brokenIn(history([{ kind: 'pay', ifMatch }, ok('paid', 2)]), ['paid']), broken, ifMatch)
  }
  const paid = [{ kind: 'pay' }, ok('paid', 2)] as const
  t.same(brokenIn(history([...paid], [{ kind: 'cancel', ifMatch: '"1"' }, ok('cancelled', 3)]), ['paid', 'cancelled']), ['wrongTransition'], 'a stale version')
  t.same(brokenIn(history([...paid], [{ kind: 'pay', ifMatch: '"1"' }, ok('paid', 2)]), ['paid']), [], 'a retry may name the version before its own change')
})

test('a transition that nobody asked for is a phantom, and one that was refused to everybody is resurrected', async t => {
  t.same(brokenIn(history(), ['paid']), ['phantom'])
  t.same(brokenIn(history([{ kind: 'pay' }, { type: 'fail', status: 503, problem: 'not-started' }]), ['paid']), ['resurrected'])
  t.same(brokenIn(history([{ kind: 'pay' }, { type: 'info', status: 503, problem: 'outcome-unknown' }]), ['paid']), [])
})

test('a transition that is refused although the order was always ready for it is falsely refused', async t => {
  const refused: Answer = { type: 'fail', status: 409, problem: 'transition-not-allowed' }
  t.same(brokenIn(history([{ kind: 'pay' }, refused]), []), ['falseRefusal'])
  t.same(brokenIn(history([{ kind: 'cancel' }, ok('cancelled', 2)], [{ kind: 'pay' }, refused]), ['cancelled']), [])
})

test('a transition that is refused for its version although If-Match named the current one is falsely refused', async t => {
  const refused: Answer = { type: 'fail', status: 412, problem: 'version-mismatch' }
  for (const [ifMatch, broken] of [['"1"', ['falseRefusal']], ['*', ['falseRefusal']], ['"of-no-version"', []]] as const) {
    t.same(brokenIn(history([{ kind: 'pay', ifMatch }, refused]), []), broken, ifMatch)
  }
  t.same(brokenIn(history([{ kind: 'cancel' }, { type: 'info' }], [{ kind: 'pay', ifMatch: '"1"' }, refused]), ['cancelled']), [], 'the version may have been another by then')
})

test('a service may name its states as it likes', async t => {
  const calls = { placed: 'new', paid: 'settled', cancelled: 'void' }
  const named = (status: string) => calls[status as keyof typeof calls] ?? status
  const lines = history([{ kind: 'pay' }, ok('paid', 2)], [{ kind: 'cancel' }, ok('cancelled', 3)]).map(line => 'order' in line && line.order ? { ...line, order: { ...line.order, status: named(line.order.status) } } : line)
  const read = { orders: [{ ...order, customer: 'alice', key: 'a', status: 'void', version: 3 }], products: [{ sku: 'ale', available: 9 }], events: ['new', 'settled', 'void'].map((type, i) => ({ orderId: 'order-1', version: i + 1, type, delivered: true })) }
  const names = { states: calls, transitions: { new: ['settled', 'void'], settled: ['shipped', 'void'] }, first: read, second: read }
  t.same(brokenIn(lines, [], names), [])
  t.ok(brokenIn(lines, [], { ...names, states: {} }).length > 0, 'the target must name its states')
})

test('a read that its own customer is refused is a false refusal', async t => {
  isCaught(t, 'falseRefusal', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok'))
    delete completion.order
    Object.assign(completion, { type: 'fail', status: 403, problem: 'forbidden' })
  })
})

for (const problem of ['unknown-product', 'idempotency-key-reused', 'forbidden'] as const) {
  test(`a correct order with a fresh key that is refused as ${problem} is falsely refused`, async t => {
    isCaught(t, 'falseRefusal', draft => {
      draft.history.push(
        { type: 'invoke', op: 10_001, at: 1e6, scheduled: 1e6, purpose: 'new', operation: { kind: 'place', customer: 'alice', key: 'of its own', order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } } },
        { type: 'fail', op: 10_001, at: 1e6, status: 422, problem }
      )
    })
  })
}

test('an order that is refused for its stock is falsely refused if, and only if, there was enough', async t => {
  const ask = (op: number, quantity: number, completion: Partial<Completion>): Line[] => [
    { type: 'invoke', op, at: op, scheduled: op, purpose: 'scarce', operation: { kind: 'place', customer: 'bob', key: `b${op}`, order: { currency: 'EUR', items: [{ sku: 'ale', quantity }] } } },
    { type: 'fail', op, at: op + 0.5, ...completion }
  ]
  const no = { type: 'fail', status: 409, problem: 'out-of-stock' } as const
  // Of nine, alice has one.
  t.same(brokenIn([...history(), ...ask(11, 8, no)], []), ['falseRefusal'])
  t.same(brokenIn([...history(), ...ask(11, 9, no)], []), [])
  t.same(brokenIn([...history(), ...ask(11, 5, { type: 'info' }), ...ask(12, 4, no)], []), [], 'an order with unknown outcome may have taken the stock')
  t.same(brokenIn([...history(), ...ask(11, 5, no).slice(0, 1), ...ask(12, 4, no), ...ask(11, 5, no).slice(1)], []), [], 'either of two orders at once may have been in the way')
})

test('an order that is being paid may become paid or not, and a declined one must not', async t => {
  const open: Answer = { type: 'info', status: 202, payment: { id: 'p1', state: 'unknown' } }
  for (const became of [[], ['paid'], ['paid', 'cancelled']]) t.same(brokenIn(history([{ kind: 'pay' }, open], [{ kind: 'cancel' }, { type: 'info', error: 'timeout' }]), became), [], became.join())
  t.same(brokenIn(history([{ kind: 'pay' }, { status: 402, problem: 'payment-declined' }]), ['paid']), ['resurrected'])
  t.same(brokenIn(history([{ kind: 'pay' }, { status: 402, problem: 'payment-declined' }], [{ kind: 'pay' }, ok('paid', 2)]), ['paid']), [])
})

test('a refusal because a payment is under way is definite, and true only if somebody asked to pay', async t => {
  const open: Answer = { type: 'info', status: 202, payment: { id: 'p1', state: 'unknown' } }
  const refused: [{ kind: 'cancel' }, Answer] = [{ kind: 'cancel' }, { status: 409, problem: 'payment-under-way' }]
  t.same(brokenIn(history([{ kind: 'pay' }, open], refused), ['paid']), [])
  t.same(brokenIn(history([{ kind: 'pay' }, open], refused), ['cancelled']), ['resurrected'])
  t.same(brokenIn(history(refused), []), ['falseRefusal'])
})
