import { hash, randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp, type Answer } from '../app.ts'
import { serviceWaitsForLock, terminateServices } from '../faults.ts'

interface Order {
  id: string
  customer: string
  status: string
  currency: string
  items: Array<{ sku: string, quantity: number, unitPrice: number }>
  total: number
  reference: string | null
  version: number
  createdAt: string
}
interface Page { orders: Order[], next: string | null }
interface Problem { type: string, status: number, detail: string, sku?: string, orderStatus?: string }

const { ask, sql, token, app } = await startApp(t)
const staff = token('boss', { staff: true })
const pint = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

/** One request for an order, by alice unless told otherwise. */
async function place (body: unknown, { key = randomUUID(), customer = 'alice' }: { key?: string, customer?: string } = {}): Promise<Answer<Order & Problem>> {
  return await ask<Order & Problem>('POST', '/orders', { token: token(customer), body, headers: { 'idempotency-key': key } })
}

async function move (id: string, transition: string, { as = token('alice'), ifMatch }: { as?: string, ifMatch?: string } = {}): Promise<Answer<Order & Problem>> {
  return await ask<Order & Problem>('POST', `/orders/${id}/${transition}`, { token: as, headers: ifMatch === undefined ? {} : { 'if-match': ifMatch } })
}

async function stockOf (sku: string): Promise<number> {
  const { rows } = await sql.query<{ stock: string }>('SELECT stock FROM products WHERE sku = $1', [sku])
  return Number(rows[0]?.stock)
}

async function rowsOf (key: string): Promise<number> {
  const { rowCount } = await sql.query('SELECT FROM orders WHERE idempotency_key = $1', [key])
  return rowCount ?? 0
}

/** An order of alice in this status. */
async function orderIn (status: 'placed' | 'paid' | 'shipped' | 'delivered' | 'cancelled'): Promise<Order> {
  const { body } = await place(pint)
  const path = { placed: [], paid: ['pay'], shipped: ['pay', 'ship'], delivered: ['pay', 'ship', 'deliver'], cancelled: ['cancel'] }[status]
  let order: Order = body
  for (const transition of path) order = (await move(body.id, transition, { as: staff })).body
  return order
}

t.test('POST /orders answers with the whole order, its Location and its ETag', async t => {
  const answer = await place({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }, { sku: 'crisps', quantity: 3 }], reference: 'table 7 🍺' })
  t.equal(answer.status, 201)
  const { id, createdAt } = answer.body
  t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.equal(new Date(createdAt).toISOString(), createdAt)
  t.same(answer.body, {
    id,
    customer: 'alice',
    status: 'placed',
    currency: 'EUR',
    items: [{ sku: 'ale-pint', quantity: 2, unitPrice: 520 }, { sku: 'crisps', quantity: 3, unitPrice: 150 }],
    total: 1_490,
    reference: 'table 7 🍺',
    version: 1,
    createdAt
  })
  t.match(answer.headers, { location: `/orders/${id}`, etag: '"1"', 'idempotent-replayed': undefined })

  const read = await ask('GET', `/orders/${id}`, { token: token('alice') })
  t.equal(read.status, 200)
  t.equal(read.text, answer.text, 'GET answers with the same')
  t.equal(read.headers.etag, '"1"')
})

t.test('a replay returns the first answer, byte for byte, and takes no stock', async t => {
  const key = randomUUID()
  const body = { currency: 'EUR', items: [{ sku: 'crisps', quantity: 2 }], reference: null }
  const first = await place(body, { key })
  const stock = await stockOf('crisps')

  async function replay (): Promise<void> {
    const again = await place(body, { key })
    t.equal(again.status, 201)
    t.equal(again.text, first.text)
    t.match(again.headers, { location: first.headers.location, etag: '"1"', 'idempotent-replayed': 'true' })
  }
  await replay()
  t.equal(await stockOf('crisps'), stock)
  await move(first.body.id, 'pay')
  await replay()
  await sql.query("UPDATE products SET unit_price = 151 WHERE sku = 'crisps'")
  await replay()
  await sql.query("UPDATE products SET unit_price = 150 WHERE sku = 'crisps'")
  await move(first.body.id, 'cancel')
  await replay()
  t.equal(await rowsOf(key), 1)
  t.equal(await stockOf('crisps'), stock + 2, 'the replay of a cancelled order takes no stock')
})

t.test('an order that does not cost its expected total is refused with both prices, nothing is stored, and its key stays free', async t => {
  const key = randomUUID()
  const stock = await stockOf('ale-pint')
  const refused = await place({ ...pint, expectedTotal: 519 }, { key })
  t.match(refused, { status: 409, body: { type: '/problems/price-changed', expectedTotal: 519, total: 520, detail: /Nothing was stored/ } })
  t.equal(await rowsOf(key), 0)
  t.equal(await stockOf('ale-pint'), stock)
  t.match(await place({ ...pint, expectedTotal: 520 }, { key }), { status: 201, body: { total: 520 } })
  t.match(await place({ ...pint, expectedTotal: 520 }, { key }), { status: 201, headers: { 'idempotent-replayed': 'true' } })
  t.match(await place(pint, { key }), { status: 422 }, 'without the total it is another request')
  t.match(await place({ ...pint, expectedTotal: -1 }, {}), { status: 400 })
})

t.test('a request without an expected total has the fingerprint of the previous version', async t => {
  const key = randomUUID()
  await place(pint, { key })
  const { rows: [row] } = await sql.query("SELECT encode(fingerprint, 'hex') AS fingerprint FROM orders WHERE idempotency_key = $1", [key])
  t.equal(row.fingerprint, hash('sha256', JSON.stringify(['EUR', [['ale-pint', 1]], null])))
})

t.test('a key in quotes is the same as without them', async t => {
  const key = randomUUID()
  const first = await place(pint, { key: `"${key}"` })
  const again = await place(pint, { key })
  t.equal(again.text, first.text)
  t.equal(again.headers['idempotent-replayed'], 'true')
})

t.test('two customers can use the same key for orders of their own', async t => {
  const key = randomUUID()
  const mine = await place(pint, { key })
  const theirs = await place(pint, { key, customer: 'bob' })
  t.same([mine.status, theirs.status], [201, 201])
  t.not(mine.body.id, theirs.body.id)
})

t.test('a key that was used for another body is refused, whatever differs', async t => {
  const key = randomUUID()
  const body = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }, { sku: 'crisps', quantity: 1 }], reference: 'a' }
  await place(body, { key })
  for (const other of [
    { ...body, reference: 'b' },
    { ...body, currency: 'USD' },
    { ...body, items: [{ sku: 'ale-pint', quantity: 2 }, { sku: 'crisps', quantity: 1 }] },
    { ...body, items: body.items.toReversed() }
  ]) {
    const answer = await place(other, { key })
    t.equal(answer.status, 422)
    t.match(answer.body, { type: /\/idempotency-key-reused$/ })
  }
  t.equal(await rowsOf(key), 1)
})

t.test('twins in flight all get 201 with the same order', async t => {
  const key = randomUUID()
  const answers = await Promise.all(Array.from({ length: 8 }, () => place(pint, { key })))
  t.same(answers.map(answer => answer.status), Array(8).fill(201))
  t.equal(new Set(answers.map(answer => answer.text)).size, 1)
  t.equal(answers.filter(answer => answer.headers['idempotent-replayed'] === undefined).length, 1, 'one of them placed the order')
  t.equal(await rowsOf(key), 1)
})

t.test('an order without a key is refused', async t => {
  for (const headers of [{}, { 'idempotency-key': '' }]) {
    const answer = await ask('POST', '/orders', { token: token('alice'), body: pint, headers })
    t.equal(answer.status, 400)
    t.match(answer.body, { type: /\/idempotency-key-missing$/ })
  }
})

t.test('a key that is not one string of visible characters is refused', async t => {
  for (const key of ['a b', '"a', 'a"', '""', '"a"b"', 'a, b', '"a", "b"', '"a b"', 'k'.repeat(256), 'schlüssel']) {
    const answer = await place(pint, { key })
    t.equal(answer.status, 400, key)
    t.match(answer.body, { type: /\/invalid-request$/ })
  }
  const twice = await ask('POST', '/orders', { token: token('alice'), body: pint, headers: { 'idempotency-key': ['one', 'two'] } })
  t.equal(twice.status, 400, 'two keys are refused')
  t.equal((await place(pint, { key: `${randomUUID()}-`.padEnd(255, 'k') })).status, 201, 'a key of 255 characters is accepted')
})

t.test('a body that is not an order is refused', async t => {
  const item = { sku: 'ale-pint', quantity: 1 }
  const bad: Record<string, unknown> = {
    'the same product twice': { ...pint, items: [item, item] },
    'no items': { ...pint, items: [] },
    '101 items': { ...pint, items: Array.from({ length: 101 }, (_, index) => ({ sku: `sku-${index}`, quantity: 1 })) },
    'a quantity of 0': { ...pint, items: [{ ...item, quantity: 0 }] },
    'a negative quantity': { ...pint, items: [{ ...item, quantity: -1 }] },
    'a fraction': { ...pint, items: [{ ...item, quantity: 1.5 }] },
    'a quantity above 2,000,000,000': { ...pint, items: [{ ...item, quantity: 2_000_000_001 }] },
    'a quantity as text': { ...pint, items: [{ ...item, quantity: '1' }] },
    'a quantity that no number holds': '{"currency":"EUR","items":[{"sku":"ale-pint","quantity":1e400}]}',
    'a price': { ...pint, items: [{ ...item, unitPrice: 1 }] },
    'a customer': { ...pint, customer: 'bob' },
    'NUL in the reference': { ...pint, reference: 'a\0b' },
    'half a character in the reference': '{"currency":"EUR","items":[{"sku":"ale-pint","quantity":1}],"reference":"\\ud83c"}',
    'a reference of 256 characters': { ...pint, reference: 'r'.repeat(256) },
    'a reference that is a number': { ...pint, reference: 7 },
    'a currency in small letters': { ...pint, currency: 'eur' },
    'a list': [pint],
    null: 'null'
  }
  for (const [what, body] of Object.entries(bad)) {
    const key = randomUUID()
    const answer = await place(body, { key })
    t.equal(answer.status, 400, what)
    t.match(answer.body, { type: /\/invalid-request$/, ...what !== 'the same product twice' && { errors: [{ in: 'body' }] } }, 'before the database is asked')
    t.equal(await rowsOf(key), 0)
  }
})

t.test('an order with 100 items is placed', async t => {
  await sql.query("INSERT INTO products SELECT 'many-' || n, 'One of many', 1, 'EUR', 10 FROM generate_series(1, 100) AS n")
  const answer = await place({ currency: 'EUR', items: Array.from({ length: 100 }, (_, index) => ({ sku: `many-${100 - index}`, quantity: 1 })) })
  t.equal(answer.status, 201)
  t.equal(answer.body.total, 100)
  t.equal(answer.body.items[0]?.sku, 'many-100', 'the items keep their sequence')
  t.equal((await ask('GET', `/orders/${answer.body.id}`, { token: token('alice') })).text, answer.text)
})

t.test('an order that cannot be sold is refused, nothing is stored, and its key is free again', async t => {
  const stock = await stockOf('ale-pint')
  const refusals: Array<[what: string, items: unknown[], expected: object]> = [
    ['an unknown product', [{ sku: 'ale-pint', quantity: 1 }, { sku: 'absinthe', quantity: 1 }], { status: 422, body: { type: /\/unknown-product$/, sku: 'absinthe' } }],
    ['a product of another currency', [{ sku: 'bourbon', quantity: 1 }], { status: 422, body: { type: /\/unknown-product$/, sku: 'bourbon' } }],
    ['more than there is', [{ sku: 'ale-pint', quantity: 1 }, { sku: 'malt-1989', quantity: 6 }], { status: 409, body: { type: /\/out-of-stock$/, sku: 'malt-1989' } }],
    ['a total above what JSON holds', [{ sku: 'ale-pint', quantity: 1 }, { sku: 'cellar', quantity: 1 }], { status: 400, body: { type: /\/invalid-request$/ } }]
  ]
  for (const [what, items, expected] of refusals) {
    const key = randomUUID()
    t.match(await place({ currency: 'EUR', items }, { key }), expected, what)
    t.equal(await rowsOf(key), 0)
    t.equal(await stockOf('ale-pint'), stock)
    const { status, body, headers } = await place(pint, { key })
    t.same([status, headers['idempotent-replayed']], [201, undefined])
    await move(body.id, 'cancel')
  }
  t.equal(await stockOf('malt-1989'), 5)
  t.equal((await place({ currency: 'EUR', items: [{ sku: 'cellar', quantity: 1 }] })).body.total, Number.MAX_SAFE_INTEGER, 'the largest total is exact')
})

t.test('each of many orders for the last bottles is placed or refused, and the stock ends at 0', async t => {
  await sql.query("INSERT INTO products VALUES ('last-bottle', 'The last bottles', 100, 'EUR', 7)")
  const answers = await Promise.all(Array.from({ length: 30 }, (_, index) => place({ currency: 'EUR', items: [{ sku: 'last-bottle', quantity: 1 }, { sku: 'ale-pint', quantity: 1 }] }, { customer: `guest-${index}` })))
  t.equal(answers.filter(({ status }) => status === 201).length, 7)
  t.equal(answers.filter(({ status, body }) => status === 409 && body.type.endsWith('/out-of-stock')).length, 23)
  t.equal(await stockOf('last-bottle'), 0)
})

t.test('each transition of an order makes one version and one event', async t => {
  const { id } = await orderIn('placed')
  for (const [version, transition, status] of [[2, 'pay', 'paid'], [3, 'ship', 'shipped'], [4, 'deliver', 'delivered']] as const) {
    const answer = await move(id, transition, { as: staff })
    t.equal(answer.status, 200)
    t.match(answer.body, { id, customer: 'alice', status, version, total: 520, items: [{ sku: 'ale-pint', quantity: 1, unitPrice: 520 }] })
    t.equal(answer.headers.etag, `"${version}"`)
    t.equal((await ask('GET', `/orders/${id}`, { token: token('alice') })).text, answer.text)
  }
  const { status, body } = await ask<{ events: Array<{ version: number, type: string, at: string }> }>('GET', `/orders/${id}/events`, { token: token('alice') })
  t.equal(status, 200)
  t.same(body.events.map(({ version, type }) => [version, type]), [[1, 'placed'], [2, 'paid'], [3, 'shipped'], [4, 'delivered']])
  const times = body.events.map(event => event.at)
  t.same(times, times.toSorted())
})

t.test('a transition that a state does not allow is refused, and the order does not change', async t => {
  const refused = {
    placed: ['ship', 'deliver'],
    paid: ['deliver'],
    shipped: ['pay', 'cancel'],
    delivered: ['pay', 'ship', 'cancel'],
    cancelled: ['pay', 'ship', 'deliver']
  } as const
  for (const [status, transitions] of Object.entries(refused)) {
    const { id, version } = await orderIn(status as keyof typeof refused)
    for (const transition of transitions) {
      const answer = await move(id, transition, { as: staff })
      t.equal(answer.status, 409, `${transition} while ${status}`)
      t.match(answer.body, { type: /\/transition-not-allowed$/, orderStatus: status })
    }
    t.match((await ask('GET', `/orders/${id}`, { token: staff })).body, { status, version })
  }
})

t.test('a transition to the state already reached gets 200 again and changes nothing', async t => {
  for (const [status, transition] of [['paid', 'pay'], ['shipped', 'ship'], ['delivered', 'deliver'], ['cancelled', 'cancel']] as const) {
    const order = await orderIn(status)
    const again = await move(order.id, transition, { as: staff })
    t.equal(again.status, 200, transition)
    t.same(again.body, order)
  }
})

t.test('If-Match allows a transition of an order only at that version', async t => {
  const { id } = await orderIn('placed')
  const mismatch = await move(id, 'pay', { ifMatch: '"2"' })
  t.equal(mismatch.status, 412)
  t.match(mismatch.body, { type: /\/version-mismatch$/ })
  t.equal(mismatch.headers.etag, '"1"', 'the refusal names the current version')

  for (const weak of ['W/"1"', '"one"', '"01"', '"*"', '"99999999999999"']) t.equal((await move(id, 'pay', { ifMatch: weak })).status, 412, weak)
  for (const malformed of ['1', '', '"1', '"1" "2"', '"1",', '*, "1"']) {
    const answer = await move(id, 'pay', { ifMatch: malformed })
    t.equal(answer.status, 400, malformed)
    t.match(answer.body, { type: /\/invalid-request$/ })
  }
  t.match((await ask('GET', `/orders/${id}`, { token: staff })).body, { status: 'placed', version: 1 })

  t.equal((await move(id, 'pay', { ifMatch: '"7", "1"' })).status, 200, 'one of several versions matches')
  t.equal((await move(id, 'pay', { ifMatch: '"1"' })).status, 200, 'the same request again succeeds')
  t.equal((await move(id, 'cancel', { ifMatch: '"1"' })).status, 412)
  t.equal((await move(id, 'cancel', { ifMatch: '*' })).status, 200)
  t.equal((await move(id, 'cancel', { ifMatch: '"1"' })).status, 412, 'only the version just before may be named again')
  t.equal((await move(randomUUID(), 'cancel', { ifMatch: '*' })).status, 404)
})

t.test('a cancelled order gives its stock back once, also when many cancel it at once', async t => {
  const stock = await stockOf('malt-1989')
  const { body } = await place({ currency: 'EUR', items: [{ sku: 'malt-1989', quantity: 3 }] })
  t.equal(await stockOf('malt-1989'), stock - 3)
  const answers = await Promise.all(Array.from({ length: 6 }, () => move(body.id, 'cancel')))
  t.same(answers.map(({ status }) => status), Array(6).fill(200))
  t.same(answers.map(({ body }) => body.version), Array(6).fill(2))
  t.equal(await stockOf('malt-1989'), stock)
})

t.test('a pay and a cancel at once leave one sequence of versions', async t => {
  const { body } = await place(pint)
  await Promise.all([move(body.id, 'pay'), move(body.id, 'cancel')])
  const { events } = (await ask<{ events: Array<{ version: number, type: string }> }>('GET', `/orders/${body.id}/events`, { token: staff })).body
  const story = events.map(({ version, type }) => `${version} ${type}`).join(', ')
  t.ok(['1 placed, 2 paid, 3 cancelled', '1 placed, 2 cancelled'].includes(story), story)
})

t.test('only staff may ship and deliver', async t => {
  const { id } = await orderIn('paid')
  for (const transition of ['ship', 'deliver']) {
    const answer = await move(id, transition)
    t.equal(answer.status, 403)
    t.match(answer.body, { type: /\/forbidden$/ })
    t.match(answer.headers['www-authenticate'], /insufficient_scope/)
  }
})

t.test('a customer cannot see or change the order of another, nor learn that it exists', async t => {
  const { id } = await orderIn('placed')
  const mallory = token('mallory')
  const nowhere = randomUUID()
  for (const path of ['', '/events']) {
    const [theirs, none] = await Promise.all([ask('GET', `/orders/${id}${path}`, { token: mallory }), ask('GET', `/orders/${nowhere}${path}`, { token: mallory })])
    t.equal(theirs.status, 404)
    t.equal(theirs.text.replace(/"instance":"[^"]+"/, ''), none.text.replace(/"instance":"[^"]+"/, ''))
  }
  for (const transition of ['pay', 'cancel']) t.equal((await move(id, transition, { as: mallory })).status, 404)
  t.equal((await move(id, 'pay', { as: mallory, ifMatch: '"9"' })).status, 404)
  t.same((await ask<Page>('GET', '/orders', { token: mallory })).body, { orders: [], next: null })
  t.match((await ask('GET', `/orders/${id}`, { token: token('alice') })).body, { status: 'placed', version: 1 })
})

t.test('staff can read and change the orders of all customers', async t => {
  const mine = (await place(pint, { customer: 'carol' })).body
  t.equal((await ask('GET', `/orders/${mine.id}`, { token: staff })).status, 200)
  t.equal((await ask('GET', `/orders/${mine.id}/events`, { token: staff })).status, 200)
  const { orders } = (await ask<Page>('GET', '/orders', { token: staff })).body
  t.ok(new Set(orders.map(order => order.customer)).size > 1)
  t.equal(orders[0]?.id, mine.id, 'the newest first')
  t.equal((await move(mine.id, 'pay', { as: staff })).body.customer, 'carol')
})

t.test('an invalid id of an order is refused before the database is asked', async t => {
  for (const id of ['1', 'nil', 'urn:uuid:01933b0c-7d3e-7000-8000-000000000000', '01933b0c-7d3e-7000-8000-00000000000g', '%00', '__proto__']) {
    const answer = await ask('GET', `/orders/${id}`, { token: token('alice') })
    t.equal(answer.status, 400, id)
    t.match(answer.body, { type: /\/invalid-request$/, errors: [{ in: 'params', path: '/id' }] })
  }
  const { id } = await orderIn('placed')
  t.match((await ask('GET', `/orders/${id.toUpperCase().replace('-', '%2D')}`, { token: token('alice') })).body, { id }, 'an id in capitals or percent-encoded is the same')
})

t.test('the pages of GET /orders hold every order once, newest first, also while new ones arrive', async t => {
  const customer = 'dave'
  const placed: string[] = []
  for (let n = 0; n < 7; n++) placed.unshift((await place(pint, { customer })).body.id)

  const seen: Order[] = []
  let next: string | null = null
  do {
    const { status, body }: Answer<Page> = await ask<Page>('GET', `/orders?limit=3${next === null ? '' : `&cursor=${next}`}`, { token: token(customer) })
    t.equal(status, 200)
    t.ok(body.orders.length === 3 || body.next === null)
    seen.push(...body.orders)
    next = body.next
    await place(pint, { customer })
  } while (next !== null)
  t.same(seen.map(order => order.id), placed)
  t.ok(seen.every(order => order.customer === customer))
  t.same((await ask<Page>('GET', '/orders?limit=10', { token: token(customer) })).body.next, null, 'an exactly full page can be the last')
})

t.test('the pages of GET /orders can be limited to one status', async t => {
  const customer = 'erin'
  const ids = await Promise.all(Array.from({ length: 5 }, async () => (await place(pint, { customer })).body.id))
  const paid = ids.slice(0, 3)
  for (const id of paid) await move(id, 'pay', { as: token(customer) })
  const found: string[] = []
  let next: string | null = null
  do {
    const { body }: Answer<Page> = await ask<Page>('GET', `/orders?status=paid&limit=2${next === null ? '' : `&cursor=${next}`}`, { token: token(customer) })
    found.push(...body.orders.map(order => order.id))
    next = body.next
  } while (next !== null)
  t.same(found, paid.toSorted().toReversed())
  t.same((await ask<Page>('GET', '/orders?status=shipped', { token: token(customer) })).body, { orders: [], next: null })
})

t.test('GET /orders refuses an invalid query', async t => {
  for (const query of ['limit=0', 'limit=101', 'limit=-1', 'limit=2.5', 'limit=many', 'limit=', 'limit=1&limit=2', 'status=lost', 'status=', 'cursor=', 'cursor=abc', `cursor=${'!'.repeat(22)}`, 'page=2', 'customer=', 'customer=a%00', `customer=${'c'.repeat(256)}`, 'reference=a%00', `reference=${'r'.repeat(256)}`, 'createdAt=2026', '__proto__=1']) {
    const answer = await ask('GET', `/orders?${query}`, { token: token('alice') })
    t.equal(answer.status, 400, query)
    t.match(answer.body, { type: /\/invalid-request$/, errors: [{ in: 'querystring' }] })
  }
  t.equal((await ask('GET', '/orders?limit=1', { token: token('alice') })).status, 200)
  t.equal((await ask('GET', '/orders?limit=100', { token: token('alice') })).status, 200)
})

t.test('a search finds the orders that meet all its conditions, newest first and each once, also while new ones arrive', async t => {
  const { ask, token, app } = await startApp(t)
  const known: Order[] = []
  const place = async (customer: string, reference?: string | null): Promise<void> => {
    const { body } = await ask<Order>('POST', '/orders', { token: token(customer), body: { ...pint, reference }, headers: { 'idempotency-key': randomUUID() } })
    known.unshift(body)
    // So that the next order has another time.
    while (Date.now() <= Date.parse(body.createdAt));
  }
  for (const reference of ['table 7', 'Table 7', '', null]) for (const customer of ['kim', 'lou']) for (let n = 0; n < 3; n++) await place(customer, reference)
  for (const order of known.filter((_order, index) => index % 3 === 0)) Object.assign(order, (await ask<Order>('POST', `/orders/${order.id}/pay`, { token: token('boss', { staff: true }) })).body)
  const [from = '', to = ''] = [known[18]?.createdAt, known[3]?.createdAt]

  const filters = { customer: 'kim', reference: 'table 7', status: 'paid', from, to }
  for (let chosen = 0; chosen < 32; chosen++) {
    for (const [reader, isStaff] of [[token('boss', { staff: true }), true], [token('kim'), false]] as const) {
      const search = Object.fromEntries(Object.entries(filters).filter((_filter, index) => (chosen & 1 << index) !== 0)) as Partial<typeof filters>
      const expected = known.filter(order => ((search.customer === undefined && isStaff) || order.customer === 'kim') &&
        (search.reference === undefined || order.reference === 'table 7') && (search.status === undefined || order.status === 'paid') &&
        (search.from === undefined || order.createdAt >= from) && (search.to === undefined || order.createdAt < to)).map(({ id }) => id)
      const found: string[] = []
      for (let next: string | null | undefined; next !== null;) {
        const { body }: Answer<Page> = await ask<Page>('GET', `/orders?${new URLSearchParams({ ...search, limit: '4', ...next !== undefined && { cursor: next } })}`, { token: reader })
        found.push(...body.orders.map(({ id }) => id))
        next = body.next
        if (found.length === 4) await place('kim', 'table 7')
      }
      t.same(found, expected, JSON.stringify(search))
    }
  }
  const none = await ask<Page>('GET', '/orders?reference=', { token: token('kim') })
  t.same(none.body.orders.map(({ reference }) => reference), ['', '', ''], 'an empty reference is a reference')
  await app.close()
})

t.test('from and to are instants of RFC 3339, to the millisecond: from is inclusive, to is exclusive', async t => {
  const customer = 'fay'
  const { body: { id, createdAt } } = await place(pint, { customer })
  const at = Date.parse(createdAt)
  const found = async (query: Record<string, string>): Promise<number | undefined> => {
    const { status, body } = await ask<Page>('GET', `/orders?${new URLSearchParams(query)}`, { token: token(customer) })
    t.equal(status, 200, JSON.stringify(body))
    return body.orders.filter(order => order.id === id).length
  }
  const iso = (ms: number) => new Date(ms).toISOString()
  const kathmandu = (ms: number) => iso(ms + 20_700_000).replace('Z', '+05:45')
  for (const zone of [iso, kathmandu]) {
    t.equal(await found({ from: zone(at) }), 1)
    t.equal(await found({ from: zone(at + 1) }), 0)
    t.equal(await found({ to: zone(at) }), 0)
    t.equal(await found({ to: zone(at + 1) }), 1)
    t.equal(await found({ from: zone(at), to: zone(at) }), 0)
  }
  t.equal(await found({ from: createdAt.replace('Z', '0001Z') }), 0, 'just after the order')
  t.equal(await found({ to: createdAt.replace('Z', '0001Z') }), 1)
  t.equal(await found({ from: createdAt.replace('Z', '000z').replace('T', 't') }), 1)
  t.equal(await found({ from: '0000-01-01T00:00:00Z', to: '9999-12-31T23:59:60Z' }), 1, 'the years 0 to 9999, and a leap second')
  t.equal(await found({ to: '1969-12-31T23:59:59-23:59' }), 0)
})

t.test('a from or to that is no instant, and a from after to, are refused with a reason', async t => {
  for (const bad of ['', 'yesterday', '2026-11-27', '1764266400', '2026-11-27T18:00:00', '2026-11-27 18:00:00Z', '2026-11-27T18:00Z', '2026-11-27T24:00:00Z', '2026-11-27T18:00:61Z',
    '2026-02-30T18:00:00Z', '2026-13-01T18:00:00Z', '2026-11-27T18:00:00+05', '2026-11-27T18:00:00+24:00', '2026-11-27T18:00:00.Z', '+012026-11-27T18:00:00Z']) {
    for (const name of ['from', 'to']) {
      const { status, body } = await ask<Problem>('GET', `/orders?${new URLSearchParams({ [name]: bad })}`, { token: staff })
      t.equal(status, 400, `${name}=${bad}`)
      t.match(body, { type: '/problems/invalid-request', detail: new RegExp(`^${name} is no instant of RFC 3339, such as 2026-`), errors: [{ in: 'querystring', path: `/${name}` }] })
    }
  }
  const plus = await ask<Problem>('GET', '/orders?from=2026-11-27T18:00:00+01:00', { token: staff })
  t.match(plus.body, { status: 400, detail: /with \+ as %2B/ })
  const turned = await ask<Problem>('GET', '/orders?from=2026-11-27T18:00:00Z&to=2026-11-27T17:59:59Z', { token: staff })
  t.match(turned.body, { status: 400, detail: /^from is after to\./, errors: [{ in: 'querystring', path: '/from' }] })
  t.equal((await ask('GET', '/orders?from=2026-11-27T18:00:00Z&from=2026-11-27T18:00:00Z', { token: staff })).status, 400)
})

t.test('only staff can search the orders of another customer', async t => {
  await place({ ...pint, reference: 'for bob' }, { customer: 'bob' })
  for (const customer of ['bob', 'nobody']) {
    const { status, body, headers } = await ask<Problem>('GET', `/orders?customer=${customer}`, { token: token('alice') })
    t.match([status, body], [403, { type: '/problems/forbidden', detail: 'Only staff may ask for the orders of another customer.' }])
    t.match(headers['www-authenticate'], /insufficient_scope.*staff/)
  }
  t.same((await ask<Page>('GET', '/orders?reference=for+bob', { token: token('alice') })).body.orders, [])
  t.match((await ask<Page>('GET', '/orders?reference=for+bob', { token: staff })).body.orders, [{ customer: 'bob' }])
})

t.test('an order that arrives in chunks is placed', async t => {
  const key = randomUUID()
  async function * chunks (): AsyncGenerator<Buffer> {
    for (const byte of Buffer.from(JSON.stringify(pint))) yield Buffer.of(byte)
  }
  const init = { method: 'POST', headers: { authorization: `Bearer ${token('alice')}`, 'content-type': 'application/json; charset=utf-8', 'idempotency-key': key }, body: chunks(), duplex: 'half' as const }
  const answer = await fetch(`${app.listeningOrigin}/orders`, init)
  t.equal(answer.status, 201)
  t.equal(await rowsOf(key), 1)
})

t.test('HEAD of an order answers as GET, without the body', async t => {
  const { id } = await orderIn('placed')
  const get = await ask('GET', `/orders/${id}`, { token: token('alice') })
  const head = await ask('HEAD', `/orders/${id}`, { token: token('alice') })
  t.same([head.status, head.text, head.headers.etag, head.headers['content-length']], [200, '', '"1"', get.headers['content-length']])
})

t.test('a transition whose connection is lost is repeated, and made once', async t => {
  const { id } = await orderIn('placed')
  await holding(`SELECT FROM orders WHERE id = '${id}' FOR UPDATE`, async () => {
    const answer = move(id, 'pay')
    await serviceWaitsForLock(sql)
    await terminateServices(sql)
    return async () => {
      t.match(await answer, { status: 200, body: { status: 'paid', version: 2 } })
    }
  })
  const { rowCount } = await sql.query('SELECT FROM outbox WHERE order_id = $1 AND version = 2', [id])
  t.equal(rowCount, 1, 'it was made once')
})

t.test('an order whose connection is lost is placed once', async t => {
  const key = randomUUID()
  await holding("SELECT FROM products WHERE sku = 'ale-pint' FOR UPDATE", async () => {
    const answer = place(pint, { key })
    await serviceWaitsForLock(sql)
    await terminateServices(sql)
    return async () => t.equal((await answer).status, 201)
  })
  t.equal(await rowsOf(key), 1)
})

t.test('a read whose connection is lost is refused as not started', async t => {
  await holding('LOCK TABLE orders IN ACCESS EXCLUSIVE MODE', async () => {
    const answer = ask('GET', '/orders', { token: token('alice') })
    await serviceWaitsForLock(sql)
    await terminateServices(sql)
    return async () => {
      const { status, headers, body } = await answer
      t.equal(status, 503)
      t.equal(headers['retry-after'], '1')
      t.match(body, { type: /\/not-started$/ })
    }
  })
  t.equal((await ask('GET', '/orders', { token: token('alice') })).status, 200, 'the next read is served')
})

/** Calls `run` with the lock held, and what it returns after the lock is released. */
async function holding (lock: string, run: () => Promise<() => Promise<unknown>>): Promise<void> {
  await sql.query('BEGIN')
  await sql.query(lock)
  const after = await run().finally(() => sql.query('ROLLBACK'))
  await after()
}
