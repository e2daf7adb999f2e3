import t from 'tap'
import type { Operation } from '../../history.ts'
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

function completionOf (operation: Operation, type: 'ok' | 'info' | 'fail') {
  if (operation.kind !== 'place' || type !== 'ok') return { type, op: 0, at: 0 }
  return { type, op: 0, at: 0, order: orderOf(operation.key, operation.order) }
}

const only = (kinds: object) => ({ mix: { ...Object.fromEntries(Object.keys(usualMix).map(kind => [kind, 0])), ...kinds } })

t.test('the same seed plans the same, another seed something else', async t => {
  t.same(planned(500), planned(500))
  t.notSame(planned(10), planned(10, { seed: 2 }))
})

t.test('answers change which earlier order is meant, and nothing else', async t => {
  const meansEarlier = ([first]: Planned[]): boolean => first === undefined || ['replay', 'reuse', 'transition'].includes(first.purpose) || first.operation.kind === 'read'
  // The first few find nothing earlier to mean.
  const [good, bad] = [planned(1_000).slice(20), planned(1_000, {}, 'info').slice(20)]
  const fresh = good.flatMap((arrival, i) => meansEarlier(arrival) ? [] : [i])
  t.ok(fresh.length > 500)
  t.same(fresh.map(i => bad[i]), fresh.map(i => good[i]))
})

t.test('each kind has its share', async t => {
  const arrivals = planned(20_000)
  const total = Object.values(usualMix).reduce((sum, share) => sum + share, 0)
  for (const [kind, share] of Object.entries(usualMix)) {
    const count = arrivals.filter(([first]) => first?.operation.kind === 'list' ? kind === 'list' : first?.purpose === kind).length
    t.ok(Math.abs(count / 20_000 - share / total) < 0.01, `${kind}: ${count}`)
  }
})

t.test('every new order has a key of its own', async t => {
  const keys = planned(5_000, only({ new: 1 })).map(([first]) => first?.operation.kind === 'place' && first.operation.key)
  t.equal(new Set(keys).size, 5_000)
})

t.test('an order is of one currency and names no product twice', async t => {
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

t.test('hot orders want the first product, scarce ones one that runs out', async t => {
  const skus = (kind: string) => new Set(planned(50, only({ [kind]: 1 })).flat().map(({ operation }) => operation.kind === 'place' && operation.order.items[0]?.sku))
  t.same(skus('hot'), new Set(['hot']))
  t.same(skus('scarce'), new Set(['scarce']))
})

t.test('a twin is one order, twice', async t => {
  t.ok(planned(20, only({ twin: 1 })).every(({ length, 0: first, 1: second }) => length === 2 && first?.operation === second?.operation))
})

t.test('a replay is an acknowledged order as it was; a reused key has another body', async t => {
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

t.test('who does not know asks again, each unknown order in its turn', async t => {
  const arrivals = planned(400, only({ new: 1, replay: 9 }), 'info').flat()
  const replayed = arrivals.filter(({ purpose }) => purpose === 'replay').map(({ operation }) => operation.kind === 'place' && operation.key)
  t.ok(replayed.length > 10)
  t.ok(new Set(replayed).size > 10)
})

t.test('what was refused is not asked again', async t => {
  t.same(planned(200, {}, 'fail').flat().filter(({ purpose }) => purpose === 'replay'), [])
})

t.test('some orders are paid and cancelled at once', async t => {
  const pairs = planned(200, only({ new: 1, transition: 1 })).filter(arrival => arrival.length === 2)
  t.ok(pairs.length > 10)
  t.same(pairs.map(([, second]) => second?.operation), pairs.map(([first]) => ({ ...first?.operation, kind: 'cancel' })))
})

t.test('what the target has no request for is not planned', async t => {
  const target = { request: (operation: Operation) => operation.kind === 'place' ? toy.request(operation) : undefined }
  t.same(new Set(planned(1_000, { target }).flat().map(({ operation }) => operation.kind)), new Set(['place']))
})

t.test('without a product that lasts there is no plan', async t => {
  t.throws(() => planned(1, { products: products.slice(4) }), { message: /does not run out/ })
})
