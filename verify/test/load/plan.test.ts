import t from 'tap'
import { isOnOrder, isTransition, noVersion, type Operation } from '../../history.ts'
import { usualMix } from '../../load/mix.ts'
import { Plan, type Planned, type PlanOptions } from '../../load/plan.ts'
import toy, { orderOf, products } from './toy-service.ts'

function planned (count: number, options: Partial<PlanOptions> = {}, answered: 'ok' | 'info' | 'fail' = 'ok'): Planned[][] {
  const plan = new Plan({ seed: 1, products, target: toy, ...options })
  return Array.from({ length: count }, () => {
    const arrival = plan.next()
    for (const { operation } of arrival) plan.learn(operation, completionOf(operation, answered))
    return arrival
  })
}

const after = { pay: 'paid', ship: 'shipped', deliver: 'delivered', cancel: 'cancelled', read: 'placed' } as const

/** Every step is taken, whatever came before. */
function completionOf (operation: Operation, type: 'ok' | 'info' | 'fail') {
  const completion = { type, op: 0, at: 0 }
  if (type !== 'ok') return completion
  if (operation.kind === 'place') return { ...completion, etag: '"1"', order: orderOf(operation.key, operation.order) }
  if (!isOnOrder(operation)) return completion
  const version = Object.keys(after).indexOf(operation.kind) + 2
  return { ...completion, etag: `"${version}"`, order: { ...orderOf('', { currency: 'EUR', items: [] }), id: operation.id, status: after[operation.kind], version } }
}

const withHeader: typeof toy.request = operation => {
  const asked = toy.request(operation)
  return asked && 'ifMatch' in operation && operation.ifMatch !== undefined ? { ...asked, headers: { 'if-match': operation.ifMatch } } : asked
}

const only = (kinds: object) => ({ mix: { ...Object.fromEntries(Object.keys(usualMix).map(kind => [kind, 0])), ...kinds } })

t.test('the same seed makes the same plan, and another seed another plan', async t => {
  t.same(planned(500), planned(500))
  t.notSame(planned(10), planned(10, { seed: 2 }))
})

t.test('answers change which earlier order is chosen, and nothing else', async t => {
  const meansEarlier = ([first]: Planned[]): boolean => first === undefined || ['replay', 'reuse', 'shared-key', 'transition', 'precondition', 'fulfil', 'intrude'].includes(first.purpose) || first.operation.kind === 'read'
  // The first few have no earlier order to use.
  const [good, bad] = [planned(1_000).slice(20), planned(1_000, {}, 'info').slice(20)]
  const fresh = good.flatMap((arrival, i) => meansEarlier(arrival) ? [] : [i])
  t.ok(fresh.length > 500)
  t.same(fresh.map(i => bad[i]), fresh.map(i => good[i]))
})

function kindOf (planned: Planned | undefined): string | undefined {
  const { purpose, operation: { kind } = { kind: undefined } } = planned ?? {}
  if (purpose === 'catalogue') return kind === 'product' ? 'stock' : kind
  return kind === 'list' ? kind : purpose
}

t.test('each kind of arrival has its share', async t => {
  const arrivals = planned(20_000, { target: { request: withHeader } })
  const total = Object.values(usualMix).reduce((sum, share) => sum + share, 0)
  for (const [kind, share] of Object.entries(usualMix)) {
    const count = arrivals.filter(([first]) => kindOf(first) === kind).length
    t.ok(Math.abs(count / 20_000 - share / total) < 0.01, `${kind}: ${count}`)
  }
})

t.test('one order is paid twice at once, by its customer', async t => {
  const twins = planned(2_000, only({ new: 3, 'twin-pay': 1 })).filter(([first]) => first?.purpose === 'twin-pay')
  t.ok(twins.length > 300)
  for (const [one, other, ...more] of twins) {
    t.equal(one, other)
    const again = one?.then?.({ type: 'info', op: 0, at: 0, status: 503 })
    t.strictSame(again?.operation, one?.operation)
    t.equal(again?.then?.({ type: 'info', op: 0, at: 0, status: 503 })?.then, undefined, 'it pays three times in all')
    for (const known of [{ type: 'ok', status: 200 }, { type: 'fail', status: 402 }, { type: 'info', error: 'timeout' }] as const) t.equal(one?.then?.({ op: 0, at: 0, ...known }), undefined)
    t.strictSame(more, [])
    t.match(one, { operation: { kind: 'pay', customer: /^customer-/ } })
  }
})

t.test('staff refunds all or a part of a payment with a fresh key, and sometimes asks twice', async t => {
  const refunds = planned(4_000, only({ new: 3, transition: 2, refund: 2 })).filter(([first]) => first?.purpose === 'refund')
  const operations = refunds.flatMap(([first]) => first?.operation.kind === 'refund' ? first.operation : [])
  t.ok(operations.length > 300)
  for (const operation of operations) t.match(operation, { staff: true, customer: /^staff-/ })
  t.equal(new Set(operations.map(({ key }) => key)).size, operations.length)
  t.ok(operations.some(({ amount }) => amount === undefined) && operations.some(({ amount }) => amount !== undefined && amount > 0))
  for (const [one, other] of refunds) if (other !== undefined) t.strictSame(one, other)
  t.ok(refunds.some(({ length }) => length === 2))
})

t.test('every new order has a key of its own', async t => {
  const keys = planned(5_000, only({ new: 1 })).map(([first]) => first?.operation.kind === 'place' && first.operation.key)
  t.equal(new Set(keys).size, 5_000)
})

t.test('customers come and go, so that none has more orders than one list can show', async t => {
  const orders = Map.groupBy(planned(41_000, only({ new: 1 })).flat(), ({ operation: { customer } }) => customer)
  t.ok(orders.size > 150)
  t.ok([...orders.values()].every(({ length }) => length < 1_200))
  t.equal([...orders.keys()].filter(customer => customer.includes('regular')).length, 2 * 4, 'the regulars stay longer')
})

t.test('an order has one currency and names no product twice', async t => {
  const currencies = new Map(products.map(({ sku, currency }) => [sku, currency]))
  const sizes = new Set<number>()
  for (const { operation } of planned(2_000, only({ new: 1, hot: 1, scarce: 1 })).flat()) {
    if (operation.kind !== 'place') continue
    const { currency, items } = operation.order
    sizes.add(items.length)
    if (items.some(({ sku }) => currencies.get(sku) !== currency)) t.fail(JSON.stringify(items))
    if (new Set(items.map(({ sku }) => sku)).size !== items.length) t.fail(JSON.stringify(items))
  }
  t.same([...sizes].sort(), [1, 2, 3])
})

t.test('hot orders ask for the first product, and scarce orders for one that runs out', async t => {
  const skus = (kind: string) => new Set(planned(50, only({ [kind]: 1 })).flat().map(({ operation }) => operation.kind === 'place' && operation.order.items[0]?.sku))
  t.same(skus('hot'), new Set(['hot']))
  t.same(skus('scarce'), new Set(['scarce']))
})

t.test('a twin is one order sent twice', async t => {
  t.ok(planned(20, only({ twin: 1 })).every(({ length, 0: first, 1: second }) => length === 2 && first?.operation === second?.operation))
})

t.test('a replay repeats an acknowledged order, and a reused key has another body', async t => {
  const asked = new Map<string, string>()
  const counts = { replay: 0, reuse: 0 }
  for (const { purpose, operation } of planned(500, only({ new: 1, replay: 1, reuse: 1 })).flat()) {
    if (operation.kind !== 'place') continue
    const text = JSON.stringify(operation)
    const name = `${operation.customer} ${operation.key}`
    if (purpose === 'new') asked.set(name, text)
    else if (asked.has(name) && (text === asked.get(name)) === (purpose === 'replay')) counts[purpose as 'replay' | 'reuse']++
    else t.fail(`${purpose}: ${text}`)
  }
  t.ok(counts.replay > 100)
  t.ok(counts.reuse > 100)
})

t.test('the load asks again for each unknown order in turn', async t => {
  const arrivals = planned(400, only({ new: 1, replay: 9 }), 'info').flat()
  const replayed = arrivals.filter(({ purpose }) => purpose === 'replay').map(({ operation }) => operation.kind === 'place' && operation.key)
  t.ok(replayed.length > 10)
  t.ok(new Set(replayed).size > 10)
})

t.test('the load does not repeat a refused order', async t => {
  t.same(planned(200, {}, 'fail').flat().filter(({ purpose }) => purpose === 'replay'), [])
})

t.test('the load pays and cancels some orders at the same time', async t => {
  const pairs = planned(200, only({ new: 1, transition: 1 })).filter(arrival => arrival.length === 2)
  t.ok(pairs.length > 10)
  t.same(pairs.map(([, second]) => second?.operation), pairs.map(([first]) => ({ ...first?.operation, kind: 'cancel' })))
})

t.test("some customers ask for another's order", async t => {
  const owners = new Map<string, string>()
  let intruders = 0
  for (const { purpose, operation } of planned(2_000, only({ new: 4, intrude: 1 })).flat()) {
    if (operation.kind === 'place') owners.set(`id-of-${operation.key}`, operation.customer)
    else if (isOnOrder(operation) && purpose === 'intrude' && owners.has(operation.id) && owners.get(operation.id) !== operation.customer) intruders++
    else t.fail(JSON.stringify(operation))
  }
  t.ok(intruders > 200)
})

t.test('some customers use a key that another customer has used', async t => {
  const customersOf = new Map<string, Set<string>>()
  const bodiesOf = new Map<string, Set<string>>()
  for (const { operation } of planned(2_000, only({ new: 4, 'shared-key': 1 })).flat()) {
    if (operation.kind !== 'place') continue
    customersOf.set(operation.key, (customersOf.get(operation.key) ?? new Set()).add(operation.customer))
    bodiesOf.set(operation.key, (bodiesOf.get(operation.key) ?? new Set()).add(JSON.stringify(operation.order)))
  }
  const shared = [...customersOf].filter(([, { size }]) => size > 1).map(([key]) => bodiesOf.get(key)?.size === 1)
  t.ok(shared.filter(same => same).length > 50, 'with the same order')
  t.ok(shared.filter(same => !same).length > 50, 'with another order')
})

t.test('If-Match names the current version, an earlier one, any, or none', async t => {
  const seen = new Map<string, number>()
  for (const { purpose, operation } of planned(3_000, { ...only({ new: 6, transition: 1, precondition: 2 }), target: { request: withHeader } }).flat()) {
    if (purpose !== 'precondition' || !isTransition(operation)) continue
    const { ifMatch = 'nothing' } = operation
    seen.set(ifMatch, (seen.get(ifMatch) ?? 0) + 1)
  }
  t.ok([...seen.values()].every(times => times > 20), JSON.stringify([...seen]))
  t.same(new Set(seen.keys()), new Set(['*', noVersion, '"1"']), '"1" is the current version of a placed order, and an earlier one of an order that has moved on')
})

t.test('staff ships paid orders and delivers shipped ones, and some customers try it without the right', async t => {
  const kinds = { ship: 0, deliver: 0 }
  const asCustomer = []
  for (const { purpose, operation } of planned(3_000, only({ new: 3, transition: 2, fulfil: 3 })).flat()) {
    if (purpose !== 'fulfil' || (operation.kind !== 'ship' && operation.kind !== 'deliver')) continue
    kinds[operation.kind]++
    if (operation.staff !== true) asCustomer.push(operation.customer)
  }
  t.ok(kinds.ship > 100 && kinds.deliver > 100, JSON.stringify(kinds))
  t.ok(asCustomer.length > 10 && asCustomer.every(customer => customer.startsWith('customer-')))
})

t.test('staff sets a stock at the version that it has read', async t => {
  const [read] = planned(1, only({ stock: 1 })).flat()
  t.match(read?.operation, { kind: 'product', sku: 'scarce' })
  const set = read?.then?.({ type: 'ok', op: 0, at: 0, etag: '"8"', product: { sku: 'scarce', unitPrice: 900, stock: 3 } })
  t.match(set?.operation, { kind: 'stock', sku: 'scarce', unitPrice: 900, stock: 28, seen: 3, ifMatch: '"8"' })
  t.match(set?.then?.({ type: 'fail', op: 0, at: 0, problem: 'version-mismatch' })?.operation, { kind: 'product' }, 'staff reads again after a version mismatch')
  t.equal(set?.then?.({ type: 'ok', op: 0, at: 0 }), undefined)
})

t.test('a burst does not shift the other arrivals', async t => {
  const plan = new Plan({ seed: 1, products, target: toy })
  const other = new Plan({ seed: 1, products, target: toy })
  t.ok(other.burst(24).length >= 24)
  t.same(plan.next(), other.next())
})

t.test('the plan contains no operation that the target has no request for', async t => {
  const target = { request: (operation: Operation) => operation.kind === 'place' ? toy.request(operation) : undefined }
  t.same(new Set(planned(1_000, { target }).flat().map(({ operation }) => operation.kind)), new Set(['place']))
})

t.test('a plan needs a product that does not run out', async t => {
  t.throws(() => planned(1, { products: products.slice(4) }), { message: /does not run out/ })
})
