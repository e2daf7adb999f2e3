import { test } from 'tap'
import type { Completion, Line, Operation } from '../../history.ts'
import { Prices } from '../../judge/prices.ts'
import { follow } from '../../judge/told.ts'

const products = [{ sku: 'ale', name: 'Ale', unitPrice: 5, currency: 'EUR', stock: 1 }]
const price = (unitPrice: number): Operation => ({ kind: 'price', customer: 'staff', sku: 'ale', name: 'Ale', currency: 'EUR', unitPrice })

/** Line by line: a number begins a change to that price, `end of` it. */
function prices (...lines: Array<number | [end: Completion['type'], of: number]>): Prices {
  const history = lines.map((line): Line => typeof line === 'number'
    ? { type: 'invoke', op: line, at: 0, scheduled: 0, purpose: 'catalogue', operation: price(line) }
    : { type: line[0], op: line[1], at: 0 })
  return new Prices({ products }, follow(history, []))
}

function between (of: Prices, from: number, to: number): number[] {
  return [...of.between('ale', from, to)].sort()
}

test('a product has its price until another is set', async t => {
  const of = prices(6, ['ok', 6], 7, ['ok', 7])
  t.same(between(of, 0, 0), [5])
  t.same(between(of, 0, 1), [5, 6], 'either price counts during a change')
  t.same(between(of, 2, 2), [6])
  t.same(between(of, 4, 9), [7])
  t.same(between(of, 0, 9), [5, 6, 7])
})

test('either of two concurrent price changes may be the last', async t => {
  t.same(between(prices(6, 7, ['ok', 6], ['ok', 7]), 9, 9), [6, 7])
})

test('a refused price change has no effect, and one with unknown outcome may take effect at any time', async t => {
  t.same(between(prices(6, ['fail', 6]), 9, 9), [5])
  t.same(between(prices(6, ['info', 6], 7, ['ok', 7]), 9, 9), [6, 7])
  t.same(between(prices(6), 9, 9), [5, 6])
})

test('a product that is not in the catalogue has no price', async t => {
  t.same(new Set(), prices().between('nothing of ours', 0, 9))
})
