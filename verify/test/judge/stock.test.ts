import { test } from 'tap'
import { isCaught, readsOf } from './damage.ts'

for (const difference of [-1, 1]) {
  test(`stock that is ${difference} from what orders have left is oversold`, async t => {
    isCaught(t, 'oversold', (draft, pick) => {
      for (const { products } of readsOf(draft)) pick(products!).available += difference
    })
  })
}

test('stock that was not given back when an order was cancelled is oversold', async t => {
  isCaught(t, 'oversold', (draft, pick) => {
    const { sku, quantity } = pick(draft.first!.orders.filter(({ status }) => status === 'cancelled')).items[0]!
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available -= quantity
  })
})

test('one that is sold and was never there is oversold, although the sum is right', async t => {
  isCaught(t, 'oversold', (draft, pick) => {
    const { sku } = pick(draft.products)
    for (const product of draft.products) if (product.sku === sku) product.stock -= 1 + draft.second!.products!.find(product => product.sku === sku)!.available
    const { available } = draft.second!.products!.find(product => product.sku === sku)!
    for (const { products } of readsOf(draft)) for (const product of products!) if (product.sku === sku) product.available -= 1 + available
  })
})

test('stock that is not told of any more is oversold', async t => {
  isCaught(t, 'oversold', draft => {
    for (const read of readsOf(draft)) read.products = read.products!.slice(1)
  })
})
