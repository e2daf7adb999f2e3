import { test } from 'tap'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import type { Product } from '../../target.ts'
import { type Change, type Draft, isCaught, isHeld, readsOf } from './damage.ts'
import { someEvidence } from './true-history.ts'

for (const difference of [-1, 1]) {
  test(`a product whose stock is ${difference} from what its orders leave is oversold`, async t => {
    isCaught(t, 'oversold', (draft, pick) => {
      for (const { products } of readsOf(draft)) pick(products!).available += difference
    })
  })
}

test('a product whose stock did not return when an order was cancelled is oversold', async t => {
  isCaught(t, 'oversold', (draft, pick) => {
    const { sku, quantity } = pick(draft.first!.orders.filter(({ status }) => status === 'cancelled')).items[0]!
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available -= quantity
  })
})

test('a product that was sold without stock is oversold, although the sum is right', async t => {
  isCaught(t, 'oversold', (draft, pick) => {
    const { sku } = pick(draft.products)
    for (const product of draft.products) if (product.sku === sku) product.stock -= 1 + draft.second!.products!.find(product => product.sku === sku)!.available
    const { available } = draft.second!.products!.find(product => product.sku === sku)!
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available -= 1 + available
  })
})

test('a product whose stock is missing from the final read is oversold', async t => {
  isCaught(t, 'oversold', draft => {
    for (const read of readsOf(draft)) read.products = read.products!.slice(1)
  })
})

test('an addition to the stock counts once, however often staff asked for it', async t => {
  const restocked = (times: number, outcome: 'ok' | 'info' | 'fail' = 'ok'): Change => (draft, pick) => {
    const { sku } = pick(draft.products)
    for (let op = 10_001; op <= 10_002; op++) {
      draft.history.push(
        { type: 'invoke', op, at: 1, scheduled: 1, purpose: 'catalogue', operation: { kind: 'restock', customer: 'staff', key: 'r', sku, delta: 5 } },
        { type: outcome, op, at: 1, status: 201 }
      )
    }
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available += 5 * times
  }
  isHeld(t, restocked(1))
  isHeld(t, restocked(0, 'fail'))
  isHeld(t, restocked(0, 'info'))
  isHeld(t, restocked(1, 'info'))
  isCaught(t, 'oversold', restocked(0))
  isCaught(t, 'oversold', restocked(2))
  isCaught(t, 'oversold', restocked(1, 'fail'))
  isCaught(t, 'oversold', restocked(2, 'info'))
})

test('a stock that staff set at the version they read changes by the difference', async t => {
  const set = (more: number): Change => (draft, pick) => {
    const { sku } = pick(draft.products)
    draft.history.push(
      { type: 'invoke', op: 10_001, at: 1, scheduled: 1, purpose: 'catalogue', operation: { kind: 'stock', customer: 'staff', sku, name: '', currency: 'EUR', unitPrice: draft.products.find(product => product.sku === sku)!.unitPrice, stock: 30, seen: 5, ifMatch: '"1"' } },
      { type: 'ok', op: 10_001, at: 1, status: 200 }
    )
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available += more
  }
  isHeld(t, set(25))
  isCaught(t, 'oversold', set(24))
})

test('many changes of a stock may be unknown if they allow only few sums', async t => {
  const unknown = (count: number, deltaOf: (i: number) => number, there: number) => (draft: Draft<Evidence>): void => {
    const [{ sku }] = draft.products as [Draft<Product>]
    for (let i = 0; i < count; i++) {
      const op = 10_001 + i
      draft.history.push(
        { type: 'invoke', op, at: 1, scheduled: 1, purpose: 'catalogue', operation: { kind: 'restock', customer: 'staff', key: `r${i}`, sku, delta: deltaOf(i) } },
        { type: 'info', op, at: 1, error: 'ECONNRESET' }
      )
    }
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available += there
  }
  isHeld(t, unknown(70, () => 25, 25 * 41))
  isCaught(t, 'oversold', unknown(70, () => 25, 25 * 41 + 1))
  isCaught(t, 'oversold', unknown(70, () => 25, 25 * 71))
  const draft = structuredClone(someEvidence()) as Draft<Evidence>
  unknown(20, i => 2 ** i, 0)(draft)
  t.match(judge(draft).checked.find(({ invariant }) => invariant === 'oversold'), { because: /^Of 20 changes of the stock of \w+ nobody knows/ })
})
