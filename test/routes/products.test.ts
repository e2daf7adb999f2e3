import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp } from '../app.ts'

interface Product { sku: string, name: string, unitPrice: number, currency: string, stock: number }

const { ask, token } = await startApp(t)
const alice = token('alice')
const staff = token('boss', { staff: true })
const porter = { name: 'Pint of porter', unitPrice: 610, currency: 'EUR', stock: 40 }

async function catalogue (): Promise<Product[]> {
  return (await ask<{ products: Product[] }>('GET', '/products', { token: alice })).body.products
}

t.test('the catalogue is told whole, by SKU', async t => {
  const products = await catalogue()
  t.same(products[0], { sku: 'ale-pint', name: 'Pint of ale', unitPrice: 520, currency: 'EUR', stock: 1_000_000 })
  const skus = products.map(product => product.sku)
  t.same(skus, skus.toSorted())
})

t.test('staff puts a product in, and sets it anew', async t => {
  const created = await ask('PUT', '/products/porter-pint', { token: staff, body: porter })
  t.equal(created.status, 201)
  t.same(created.body, { sku: 'porter-pint', ...porter })
  t.same((await catalogue()).find(({ sku }) => sku === 'porter-pint'), created.body)

  const again = await ask('PUT', '/products/porter-pint', { token: staff, body: { ...porter, stock: 41 } })
  t.equal(again.status, 200)
  t.match((await catalogue()).find(({ sku }) => sku === 'porter-pint'), { stock: 41 })
})

t.test('a new price is the price of new orders only', async t => {
  async function order (): Promise<{ id: string, total: number }> {
    const body = { currency: 'EUR', items: [{ sku: 'porter-pint', quantity: 1 }] }
    return (await ask<{ id: string, total: number }>('POST', '/orders', { token: alice, body, headers: { 'idempotency-key': randomUUID() } })).body
  }
  const before = await order()
  await ask('PUT', '/products/porter-pint', { token: staff, body: { ...porter, unitPrice: 620 } })
  const after = await order()
  t.same([before.total, after.total], [610, 620])
  t.match((await ask('GET', `/orders/${before.id}`, { token: alice })).body, { total: 610 })
})

t.test('the bounds of price and stock can be set, and nothing beyond', async t => {
  for (const [unitPrice, stock] of [[0, 0], [Number.MAX_SAFE_INTEGER, 2_000_000_000]] as const) {
    t.match(await ask('PUT', '/products/bounds', { token: staff, body: { ...porter, unitPrice, stock } }), { body: { unitPrice, stock } })
    t.match((await catalogue()).find(({ sku }) => sku === 'bounds'), { unitPrice, stock })
  }
  const wrong: Array<[path: string, body: unknown]> = [
    ['/unitPrice', { ...porter, unitPrice: -1 }],
    ['/unitPrice', { ...porter, unitPrice: '610' }],
    ['/unitPrice', '{"name":"x","currency":"EUR","stock":1,"unitPrice":9007199254740993}'],
    ['/unitPrice', { ...porter, unitPrice: 6.1 }],
    ['/stock', { ...porter, stock: -1 }],
    ['/stock', { ...porter, stock: 2_000_000_001 }],
    ['/currency', { ...porter, currency: 'EURO' }],
    ['/name', { ...porter, name: '' }],
    ['/name', { ...porter, name: 'a\0b' }],
    ['/name', { ...porter, name: 'n'.repeat(201) }],
    ['/sku', { ...porter, sku: 'another' }],
    ['', { unitPrice: 1, currency: 'EUR', stock: 1 }]
  ]
  for (const [path, body] of wrong) {
    const answer = await ask('PUT', '/products/bounds', { token: staff, body })
    t.equal(answer.status, 400, path)
    t.match(answer.body, { type: /\/invalid-request$/, errors: [{ in: 'body', path }] })
  }
  t.match((await catalogue()).find(({ sku }) => sku === 'bounds'), { stock: 2_000_000_000 })
})

t.test('what is no SKU is refused', async t => {
  for (const sku of ['-a', '__proto__', 'a%2Fb', 'a%00', '%20', 's'.repeat(65), '%C3%A4']) {
    const answer = await ask('PUT', `/products/${sku}`, { token: staff, body: porter })
    t.equal(answer.status, 400, sku)
  }
})

t.test('customers cannot set a product', async t => {
  const answer = await ask('PUT', '/products/ale-pint', { token: alice, body: { ...porter, unitPrice: 1 } })
  t.equal(answer.status, 403)
  t.match(answer.body, { type: /\/forbidden$/ })
  t.match((await catalogue())[0], { sku: 'ale-pint', unitPrice: 520 })
})
