import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp, type Answer } from '../app.ts'

interface Product { sku: string, name: string, unitPrice: number, currency: string, stock: number, withdrawn: boolean, version: number }
interface Page { products: Product[], next: string | null }
interface Change { id: string, sku: string, delta: number, reason: string, stock: number, changedBy: string, createdAt: string }
interface Problem { type: string, detail: string }

const { ask, sql, token } = await startApp(t)
const alice = token('alice')
const staff = token('boss', { staff: true })
const porter = { name: 'Pint of porter', unitPrice: 610, currency: 'EUR', stock: 40 }

async function catalogue (): Promise<Product[]> {
  return (await ask<Page>('GET', '/products', { token: alice })).body.products
}

async function read (sku: string): Promise<Answer<Product>> {
  return await ask<Product>('GET', `/products/${sku}`, { token: staff })
}

async function put (sku: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer<Product & Problem>> {
  return await ask<Product & Problem>('PUT', `/products/${sku}`, { token: staff, body, headers })
}

async function newProduct (stock = 10): Promise<string> {
  const sku = `p-${randomUUID()}`
  const { status } = await put(sku, { ...porter, stock })
  if (status !== 201) throw new Error(`The product was not created: ${status}`)
  return sku
}

async function change (sku: string, delta: unknown, { key = randomUUID(), reason = 'delivery' }: { key?: string, reason?: string } = {}): Promise<Answer<Change & Problem>> {
  return await ask<Change & Problem>('POST', `/products/${sku}/stock`, { token: staff, body: { delta, reason }, headers: { 'idempotency-key': key } })
}

async function order (sku: string, quantity = 1): Promise<Answer<{ id: string, total: number } & Problem>> {
  const body = { currency: 'EUR', items: [{ sku, quantity }] }
  return await ask('POST', '/orders', { token: alice, body, headers: { 'idempotency-key': randomUUID() } })
}

t.test('GET /products lists the catalogue by SKU', async t => {
  const products = await catalogue()
  t.same(products[0], { sku: 'ale-pint', name: 'Pint of ale', unitPrice: 520, currency: 'EUR', stock: 1_000_000, withdrawn: false, version: 1 })
  const skus = products.map(product => product.sku)
  t.same(skus, skus.toSorted())
})

t.test('a product that staff creates can be read', async t => {
  const created = await put('porter-pint', porter)
  t.equal(created.status, 201)
  t.equal(created.headers.etag, '"1"')
  t.same(created.body, { sku: 'porter-pint', ...porter, withdrawn: false, version: 1 })
  t.same((await catalogue()).find(({ sku }) => sku === 'porter-pint'), created.body)
  const alone = await ask('GET', '/products/porter-pint', { token: alice })
  t.match(alone, { status: 200, headers: { etag: '"1"' } })
  t.same(alone.body, created.body)
  t.match(await ask('GET', '/products/nothing', { token: alice }), { status: 404, body: { type: /\/not-found$/ } })
})

t.test('a product without a stock is not created', async t => {
  const { stock, ...withoutStock } = porter
  t.match(await put('no-stock', withoutStock), { status: 404, body: { type: /\/not-found$/ } })
  t.equal((await read('no-stock')).status, 404)
})

t.test('a new price holds for new orders only', async t => {
  const before = await order('porter-pint')
  const { stock, ...withoutStock } = porter
  t.equal((await put('porter-pint', { ...withoutStock, unitPrice: 620 })).status, 200)
  const after = await order('porter-pint')
  t.same([before.body.total, after.body.total], [610, 620])
  t.match((await ask('GET', `/orders/${before.body.id}`, { token: alice })).body, { total: 610 })
})

t.test('a change of name and price leaves the stock alone, whatever was sold since they were read', async t => {
  const sku = await newProduct()
  await order(sku, 5)
  const { stock, ...withoutStock } = porter
  const changed = await put(sku, { ...withoutStock, name: 'Porter', unitPrice: 1 })
  t.match(changed, { status: 200, body: { name: 'Porter', unitPrice: 1, stock: 5 } })
  t.equal(changed.headers.etag, `"${changed.body.version}"`)
  t.same((await read(sku)).body, changed.body)
})

t.test('a PUT with a stock and without If-Match changes nothing of an existing product', async t => {
  const sku = await newProduct()
  const refused = await put(sku, { ...porter, name: 'Porter', unitPrice: 1, stock: 30 })
  t.match(refused, { status: 428, headers: { etag: '"1"' }, body: { type: '/problems/precondition-required', status: 428, detail: /Nothing was changed/ } })
  t.same((await read(sku)).body, { sku, ...porter, stock: 10, withdrawn: false, version: 1 })
})

t.test('If-Match lets a stock be set only at the version that was read', async t => {
  const sku = await newProduct()
  const { headers: { etag } } = await read(sku)
  t.type(etag, 'string')
  await order(sku)
  const refused = await put(sku, { ...porter, stock: 30 }, { 'if-match': String(etag) })
  t.match(refused, { status: 412, body: { type: /\/version-mismatch$/, detail: /Nothing was changed/ } })
  t.match((await read(sku)).body, { stock: 9 })

  const now = await read(sku)
  t.equal(refused.headers.etag, now.headers.etag, 'the refusal names the current version')
  const set = await put(sku, { ...porter, stock: 30 }, { 'if-match': String(now.headers.etag) })
  t.match(set, { status: 200, body: { stock: 30 } })
  t.equal((await put(sku, { ...porter, stock: 30 }, { 'if-match': String(now.headers.etag) })).status, 412, 'the version has changed')
  t.match(await put(sku, { ...porter, stock: 31 }, { 'if-match': `"7000", "a,b", ${String(set.headers.etag)}` }), { status: 200, body: { stock: 31 } })
  t.match(await put(sku, { ...porter, stock: 32 }, { 'if-match': '*' }), { status: 200, body: { stock: 32 } })
})

t.test('a weak, foreign or unknown tag matches no version of a product, and a malformed tag is refused', async t => {
  const sku = await newProduct()
  const { stock, ...withoutStock } = porter
  for (const tag of ['W/"1"', '"nope"', '"01"', '"99999999999999999999"']) {
    t.equal((await put(sku, { ...porter, stock: 1 }, { 'if-match': tag })).status, 412, tag)
    t.equal((await put(sku, withoutStock, { 'if-match': tag })).status, 412, `${tag}, without a stock`)
  }
  for (const tag of ['1', '', '"1" "2"']) t.equal((await put(sku, { ...porter, stock: 1 }, { 'if-match': tag })).status, 400, tag)
  t.equal((await put('nowhere', porter, { 'if-match': '*' })).status, 412)
  t.equal((await read('nowhere')).status, 404)
  t.match((await read(sku)).body, { stock: 10, version: 1 })
})

t.test('If-None-Match: * creates a product, and changes none', async t => {
  const sku = `p-${randomUUID()}`
  const answers = await Promise.all(Array.from({ length: 4 }, (_, index) => put(sku, { ...porter, stock: index }, { 'if-none-match': '*' })))
  t.same(answers.map(({ status }) => status).sort(), [201, 412, 412, 412])
  const created = answers.find(({ status }) => status === 201)
  t.same((await read(sku)).body, created?.body)
  const { stock, ...withoutStock } = porter
  t.equal((await put(sku, withoutStock, { 'if-none-match': '"1"' })).status, 412)
  t.equal((await put(sku, withoutStock, { 'if-none-match': '"2"' })).status, 200)
})

t.test('every change of a product makes a version, also a sale, a cancellation and plain SQL', async t => {
  const sku = await newProduct()
  const versions = [(await read(sku)).body.version]
  const placed = await order(sku)
  versions.push((await read(sku)).body.version)
  await ask('POST', `/orders/${placed.body.id}/cancel`, { token: alice })
  versions.push((await read(sku)).body.version)
  await sql.query('UPDATE products SET stock = 3 WHERE sku = $1', [sku])
  versions.push((await read(sku)).body.version)
  await change(sku, 1)
  versions.push((await read(sku)).body.version)
  t.same(versions, [1, 2, 3, 4, 5])
})

t.test('a restock adds to the stock that there is, whatever was sold since it was read', async t => {
  const sku = await newProduct()
  await read(sku)
  for (let sold = 0; sold < 4; sold++) await order(sku)
  const restocked = await change(sku, 20)
  t.match(restocked, { status: 201, body: { sku, delta: 20, reason: 'delivery', stock: 26, changedBy: 'boss' } })
  t.match((await read(sku)).body, { stock: 26 })
  t.match(await change(sku, -6, { reason: 'breakage' }), { status: 201, body: { delta: -6, stock: 20 } })
  t.match((await read(sku)).body, { stock: 20 })
})

t.test('one key changes a stock once, and every retry gets the first answer', async t => {
  const sku = await newProduct()
  const key = randomUUID()
  const answers = await Promise.all(Array.from({ length: 6 }, () => change(sku, 5, { key })))
  await order(sku)
  answers.push(await change(sku, 5, { key }))
  t.same(answers.map(({ status }) => status), Array(7).fill(201))
  t.equal(new Set(answers.map(({ text }) => text)).size, 1)
  t.equal(answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, 6)
  t.match((await read(sku)).body, { stock: 14 })

  for (const other of [change(sku, 6, { key }), change(sku, 5, { key, reason: 'a count' }), change('ale-pint', 5, { key })]) t.match(await other, { status: 422, body: { type: /\/idempotency-key-reused$/ } })
  t.match((await read(sku)).body, { stock: 14 })
  const another = token('other-boss', { staff: true })
  t.equal((await ask('POST', `/products/${sku}/stock`, { token: another, body: { delta: 5, reason: 'delivery' }, headers: { 'idempotency-key': key } })).status, 201, 'another sender can use the same key')
})

t.test('a change of a stock that is refused leaves no row, and its key can be used again', async t => {
  const sku = await newProduct()
  const key = randomUUID()
  t.match(await change(sku, -11, { key }), { status: 409, body: { type: /\/out-of-stock$/, sku, detail: /Nothing was changed/ } })
  t.equal((await change('nothing', 1, { key })).status, 404)
  t.equal((await change(sku, 1_999_999_991, { key })).status, 400)
  t.equal((await sql.query('SELECT FROM stock_changes WHERE idempotency_key = $1', [key])).rowCount, 0)
  t.match((await read(sku)).body, { stock: 10, version: 1 })
  t.match(await change(sku, -10, { key }), { status: 201, body: { stock: 0 } })

  for (const delta of [0, 0.5, '1', null, 2_000_000_001]) t.equal((await change(sku, delta)).status, 400, String(delta))
  t.equal((await change(sku, 1, { reason: '' })).status, 400)
  t.match(await ask('POST', `/products/${sku}/stock`, { token: staff, body: { delta: 1, reason: 'x' } }), { status: 400, body: { type: /\/idempotency-key-missing$/ } })
  t.equal((await ask('POST', `/products/${sku}/stock`, { token: alice, body: { delta: 1, reason: 'x' }, headers: { 'idempotency-key': 'k' } })).status, 403)
  t.match((await read(sku)).body, { stock: 0 })
})

t.test('the changes of a stock are listed, newest first, page by page', async t => {
  const sku = await newProduct()
  for (const delta of [1, 2, 3]) await change(sku, delta, { reason: `delivery ${delta}` })
  const first = (await ask<{ changes: Change[], next: string }>('GET', `/products/${sku}/stock?limit=2`, { token: staff })).body
  const second = (await ask<{ changes: Change[], next: null }>('GET', `/products/${sku}/stock?limit=2&cursor=${first.next}`, { token: staff })).body
  t.same([...first.changes, ...second.changes].map(({ reason, stock }) => [reason, stock]), [['delivery 3', 16], ['delivery 2', 13], ['delivery 1', 11]])
  t.equal(second.next, null)
  t.equal((await ask('GET', `/products/${sku}/stock`, { token: alice })).status, 403)
  t.equal((await ask('GET', '/products/nothing/stock', { token: staff })).status, 404)
})

t.test('a withdrawn product stays withdrawn after a cancellation, a delivery or a new price', async t => {
  const sku = await newProduct(3)
  const placed = await order(sku, 2)
  t.match(await ask('DELETE', `/products/${sku}`, { token: staff, headers: { 'if-match': '"1"' } }), { status: 412 })
  t.match(await ask('DELETE', `/products/${sku}`, { token: staff }), { status: 200, body: { sku, withdrawn: true, stock: 1 } })
  t.match(await order(sku), { status: 409, body: { type: /\/out-of-stock$/ } })

  await ask('POST', `/orders/${placed.body.id}/cancel`, { token: alice })
  t.equal((await order(sku)).status, 409, 'after a cancellation')
  await change(sku, 4)
  t.equal((await order(sku)).status, 409, 'after a delivery')
  const { stock, ...withoutStock } = porter
  await put(sku, withoutStock)
  t.equal((await order(sku)).status, 409, 'after a new price')
  // The previous version of the service writes it so.
  await sql.query('UPDATE products SET stock = 8 WHERE sku = $1', [sku])
  t.equal((await order(sku)).status, 409)
  await sql.query('UPDATE products SET withdrawn_stock = 7 WHERE sku = $1', [sku])

  t.notOk((await catalogue()).find(product => product.sku === sku), 'the catalogue does not offer it')
  t.ok((await ask<Page>('GET', '/products?withdrawn=true', { token: staff })).body.products.find(product => product.sku === sku))
  const back = await put(sku, { ...withoutStock, withdrawn: false })
  t.match(back, { status: 200, body: { withdrawn: false, stock: 7 } })
  t.equal((await order(sku, 7)).status, 201)
  t.equal((await ask('DELETE', '/products/nothing', { token: staff })).status, 404)
  t.equal((await ask('DELETE', `/products/${sku}`, { token: alice })).status, 403)
})

t.test('concurrent sales, restocks and cancellations add up to the right stock', async t => {
  const sku = await newProduct(100)
  const answers = await Promise.all(Array.from({ length: 60 }, async (_, index): Promise<number> => {
    if (index % 3 === 0) return (await change(sku, 1)).status === 201 ? 1 : 0
    const placed = await order(sku)
    if (index % 3 === 1) return placed.status === 201 ? -1 : 0
    await ask('POST', `/orders/${placed.body.id}/cancel`, { token: alice })
    return 0
  }))
  t.match((await read(sku)).body, { stock: 100 + answers.reduce((sum, delta) => sum + delta, 0) })
})

t.test('a product that is created as withdrawn is not on sale until it is put there', async t => {
  const sku = `p-${randomUUID()}`
  t.match(await put(sku, { ...porter, withdrawn: true }), { status: 201, body: { withdrawn: true, stock: 40 } })
  t.equal((await order(sku)).status, 409)
  t.match(await put(sku, { ...porter, stock: 2, withdrawn: false }, { 'if-match': '"1"' }), { status: 200, body: { withdrawn: false, stock: 2 } })
  t.equal((await order(sku, 2)).status, 201)
})

t.test('a large catalogue is listed page by page, each product once', async t => {
  await sql.query("INSERT INTO products SELECT 'many-' || i, 'Product ' || i, 1, 'EUR', 1 FROM generate_series(1, 2500) i")
  const { rows } = await sql.query<{ sku: string }>('SELECT sku FROM products WHERE NOT withdrawn ORDER BY sku')
  t.equal((await catalogue()).length, 100)
  const seen: string[] = []
  let next: string | null = ''
  let pages = 0
  while (next !== null) {
    const { body }: Answer<Page> = await ask<Page>('GET', `/products?limit=1000${next === '' ? '' : `&cursor=${next}`}`, { token: alice })
    seen.push(...body.products.map(({ sku }) => sku))
    next = body.next
    pages++
  }
  t.same(seen, rows.map(({ sku }) => sku))
  t.equal(pages, 3)
  for (const query of ['limit=0', 'limit=1001', 'cursor=', 'cursor=AA', 'cursor=!', 'withdrawn=maybe', 'page=2']) {
    t.match(await ask('GET', `/products?${query}`, { token: alice }), { status: 400, body: { type: /\/invalid-request$/ } }, query)
  }
  await sql.query("DELETE FROM products WHERE sku LIKE 'many-%'")
})

t.test('price and stock can be set to their bounds, and not beyond', async t => {
  await put('bounds', porter)
  for (const [unitPrice, stock] of [[0, 0], [Number.MAX_SAFE_INTEGER, 2_000_000_000]] as const) {
    t.match(await put('bounds', { ...porter, unitPrice, stock }, { 'if-match': '*' }), { body: { unitPrice, stock } })
    t.match((await read('bounds')).body, { unitPrice, stock })
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
    const answer = await put('bounds', body, { 'if-match': '*' })
    t.equal(answer.status, 400, path)
    t.match(answer.body, { type: /\/invalid-request$/, errors: [{ in: 'body', path }] })
  }
  t.match((await read('bounds')).body, { stock: 2_000_000_000 })
})

t.test('an invalid SKU is refused', async t => {
  for (const sku of ['-a', '__proto__', 'a%2Fb', 'a%00', '%20', 's'.repeat(65), '%C3%A4']) {
    const answer = await ask('PUT', `/products/${sku}`, { token: staff, body: porter })
    t.equal(answer.status, 400, sku)
  }
})

t.test('customers cannot change a product', async t => {
  const answer = await ask('PUT', '/products/ale-pint', { token: alice, body: { ...porter, unitPrice: 1 } })
  t.equal(answer.status, 403)
  t.match(answer.body, { type: /\/forbidden$/ })
  t.match((await catalogue())[0], { sku: 'ale-pint', unitPrice: 520 })
})
