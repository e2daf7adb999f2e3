import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { wholeSnapshot } from '../../at-rest.ts'
import type { Description } from '../../describe/description.ts'
import { targetOf } from '../../describe/target.ts'
import { lackedBy } from '../../lacking.ts'
import { lacksOf, Plan } from '../../load/plan.ts'
import { products } from '../../products.ts'
import type { Operation, Run, Snapshot, Target } from '../../target.ts'

const place: Operation = { kind: 'place', customer: 'al/ice', key: 'k 1', order: { currency: 'EUR', items: [{ sku: 'hot', quantity: 2 }, { sku: 'common-1', quantity: 1 }] } }
const withReference: Operation = { ...place, order: { ...place.order, reference: 'r' } }

const least: Description = {
  start: { command: ['true'], ready: '/' },
  requests: { place: { method: 'POST', path: '/orders', headers: { 'idempotency-key': '{{key}}', 'x-customer': '{{customer}}' }, body: '{{order}}' } },
  order: { id: '/id' },
  stored: { command: ['true'] }
}

t.test('a request is made from its template, with the values of the operation in place of {{…}}', async t => {
  const target = described({
    headers: { 'x-customer': '{{customer}}', 'x-note': '{{order.reference}}' },
    requests: {
      place: { method: 'PUT', path: '/of/{{customer}}/orders/{{key}}', body: { lines: [{ $each: '{{order.items}}', product: '{{item.sku}}', count: '{{item.quantity}}' }], note: '{{order.reference}}', text: 'for {{customer}}' } },
      list: { path: '/orders', query: { limit: 5, after: '{{cursor}}' } },
      read: 'GET /orders/{{id}}'
    }
  })
  const json = { 'content-type': 'application/json', 'x-customer': 'al/ice' }
  const lines = [{ product: 'hot', count: 2 }, { product: 'common-1', count: 1 }]
  t.strictSame(target.request(place), { method: 'PUT', path: '/of/al%2Fice/orders/k%201', headers: json, body: JSON.stringify({ lines, text: 'for al/ice' }) })
  t.strictSame(target.request(withReference), { method: 'PUT', path: '/of/al%2Fice/orders/k%201', headers: { ...json, 'x-note': 'r' }, body: JSON.stringify({ lines, note: 'r', text: 'for al/ice' }) })
  t.strictSame(target.request({ kind: 'list', customer: 'a' }), { method: 'GET', path: '/orders?limit=5', headers: { 'x-customer': 'a' } })
  t.strictSame(target.request({ kind: 'list', customer: 'a', cursor: 'c&d' })?.path, '/orders?limit=5&after=c%26d')
  t.equal(target.request({ kind: 'read', customer: 'a', id: '7' })?.path, '/orders/7')
  t.equal(target.request({ kind: 'pay', customer: 'a', id: '7' }), undefined, 'a request that is not described is not made')
})

t.test('a token is made for each customer', async t => {
  const target = described({ jwt: { secret: 's', claims: { sub: '{{customer}}', scope: 'orders' } }, headers: { authorization: 'Bearer {{jwt}}' } })
  const [, payload = ''] = target.request(place)?.headers.authorization?.split('.') ?? []
  t.match(JSON.parse(Buffer.from(payload, 'base64url').toString()), { sub: 'al/ice', scope: 'orders', exp: Number })
})

t.test('an answer is read at the pointers of the description, in verify\'s own names and in minor units', async t => {
  const target = described({
    money: 'major',
    order: { at: '/data', id: '/no', status: '/state', version: '/rev', currency: '/cur', total: '/sum', reference: '/note', items: { at: '/lines', sku: '/p', quantity: '/n', unitPrice: '/each' } },
    states: { placed: ['new', 'open'], cancelled: 'void' },
    replayed: { header: 'X-Again' }
  })
  const data = { no: 7, state: 'open', rev: 1, cur: 'EUR', sum: '20.98', note: null, lines: [{ p: 'hot', n: 2, each: '9.99' }, { p: 'common-1', n: 1, each: 1 }] }
  const order = {
    id: '7',
    status: 'placed',
    version: 1,
    currency: 'EUR',
    total: 2098,
    reference: null,
    items: [{ sku: 'hot', quantity: 2, unitPrice: 999 }, { sku: 'common-1', quantity: 1, unitPrice: 100 }]
  }
  t.same(target.understand(place, answer(201, { data })), { type: 'ok', order })
  t.same(target.understand(place, answer(200, { data }, { 'x-again': 'true' })), { type: 'ok', order, replayed: true })
  t.match(target.understand({ kind: 'cancel', customer: 'a', id: '7' }, answer(200, { data: { ...data, state: 'void', rev: 2 } })), { order: { status: 'cancelled', version: 2 } })
  t.throws(() => target.understand(place, answer(201, { data: { no: 7 } })), { message: /nothing at "\/state", where order\.status looks/ })
  t.throws(() => target.understand(place, answer(201, { data: { ...data, sum: 'much' } })), { message: /order\.total is "much", which is no number/ })
})

t.test('fields that a service does not answer are filled in from the request, named as skipped, and not checked', async t => {
  const target = described({ requests: { ...least.requests, read: 'GET /orders/{{id}}' } })
  const order = { id: 'o1', status: 'placed', version: 1, currency: 'EUR', total: 2098, reference: null, items: [{ sku: 'hot', quantity: 2, unitPrice: 999 }, { sku: 'common-1', quantity: 1, unitPrice: 100 }] }
  t.strictSame(target.understand(place, answer(201, { id: 'o1' })), { type: 'ok', order })
  t.strictSame(target.understand({ kind: 'read', customer: 'a', id: 'o1' }, answer(200, { id: 'o1' })), { type: 'ok' }, 'a read without the state shows nothing of the order')
  const skipped = lackedBy(target, { events: false }).join('\n')
  for (const what of ['list', 'pay', 'cancel', 'stream', 'stock', 'outbox', 'transitions', 'database', 'versions', 'references', 'states in answers', 'items in answers', 'totals in answers', 'currencies in answers']) {
    t.match(skipped, new RegExp(`^${what}: `, 'm'))
  }
  t.notMatch(skipped, /^read|^customers/m)

  const plan = new Plan({ seed: 1, products, target })
  const orders = Array.from({ length: 500 }, () => plan.next()).flat().flatMap(({ operation }) => operation.kind === 'place' ? [operation.order] : [])
  t.notOk(orders.some(({ reference }) => reference !== undefined))
})

t.test('the id of a new order may be in its Location header', async t => {
  const target = described({ order: { id: 'Location', status: '/state' }, requests: { ...least.requests, read: 'GET /orders/{{id}}' } })
  t.match(target.understand(place, answer(201, { state: 'placed' }, { location: 'https://shop.example/orders/a%20b/?x' })), { type: 'ok', order: { id: 'a b' } })
  t.match(target.understand({ kind: 'read', customer: 'a', id: 'a b' }, answer(200, { state: 'paid' })), { type: 'ok', order: { id: 'a b', status: 'paid' } })
  t.throws(() => target.understand(place, answer(201, { state: 'placed' })), { message: /no header Location/ })
})

t.test('the answer to a transition may have no body', async t => {
  const target = described({ order: { id: '/id', status: '/status' } })
  const pay: Operation = { kind: 'pay', customer: 'a', id: '7' }
  t.strictSame(target.understand(pay, { status: 204, headers: {}, body: '' }), { type: 'ok' })
  t.strictSame(target.understand(pay, answer(200, { done: true })), { type: 'ok' })
  t.throws(() => target.understand({ ...pay, kind: 'read' }, answer(200, { done: true })), { message: /nothing at "\/id"/ }, 'a read that shows nothing is not understood')
})

t.test('the service gets its database as a URL and in parts', async t => {
  const target = described({ postgres: true, start: { ...least.start, env: { A: 'jdbc:postgresql://{{database.host}}:{{database.port}}/{{database.name}}', B: '{{database.user}} {{database.password}}', C: '{{databaseUrl}}' } } })
  const url = 'postgresql://postgres:secret@127.0.0.1:5433/orders'
  t.strictSame(target.start({ ...runIn(t), databaseUrl: url, directDatabaseUrl: '' }, { index: 0, port: 1, opsPort: 2, balanced: false }).env, {
    A: 'jdbc:postgresql://127.0.0.1:5433/orders', B: 'postgres secret', C: url
  })
})

t.test('a service with one product per order is never asked for two', async t => {
  const plan = new Plan({ seed: 1, products, target: described({ itemsPerOrder: 1 }) })
  const orders = Array.from({ length: 500 }, () => plan.next()).flat().flatMap(({ operation }) => operation.kind === 'place' ? [operation.order] : [])
  t.ok(orders.every(({ items }) => items.length === 1))
})

t.test('a service that can only pay is only asked to pay', async t => {
  const target = described({ requests: { ...least.requests, pay: 'POST /orders/{{id}}/pay' } })
  const plan = new Plan({ seed: 1, products, target })
  plan.learn(place, { type: 'ok', op: 1, at: 0, order: { id: 'o1', status: 'placed', version: 1, currency: 'EUR', items: [], total: 0, reference: null } })
  const kinds = Array.from({ length: 500 }, () => plan.next()).flat().flatMap(({ operation: { kind } }) => kind === 'place' ? [] : [kind])
  t.strictSame([...new Set(kinds)], ['pay'])
})

t.test('without a version, the state shows how far an order is', async t => {
  const target = described({ order: { id: '/id', status: '/state' }, states: { placed: 'new' }, transitions: { new: ['paid', 'void'], paid: ['void', 'sent'] } })
  const versionOf = (state: string): number | undefined => target.understand(place, answer(201, { id: '1', state })).order?.version
  t.strictSame(['new', 'paid', 'void', 'sent', 'of which no step tells'].map(versionOf), [1, 2, 3, 3, 1_000])
  t.strictSame(target.transitions, { placed: ['paid', 'void'], paid: ['void', 'sent'], void: [], sent: [] })
})

for (const [status, body, kind, expected] of [
  [409, { error: 'none left' }, 'place', { type: 'fail', problem: 'out-of-stock' }],
  [409, { error: 'used' }, 'place', { type: 'fail', problem: 'idempotency-key-reused' }],
  [409, { error: 'else' }, 'place', { type: 'fail', problem: 'http-409' }],
  [503, {}, 'place', { type: 'fail', problem: 'not-started' }],
  [500, {}, 'place', { type: 'info', problem: 'http-500' }],
  [404, {}, 'read', { type: 'fail', problem: 'not-found' }],
  [404, {}, 'place', { type: 'fail', problem: 'http-404' }],
  [409, 'no JSON', 'read', { type: 'fail', problem: 'version-mismatch' }],
  [418, {}, 'read', { type: 'fail', problem: 'transition-not-allowed' }]
] as const) {
  t.test(`${status} ${JSON.stringify(body)} to ${kind} is ${expected.type}, ${expected.problem}`, async t => {
    const target = described({
      refusals: {
        'out-of-stock': { status: 409, where: { '/error': 'none left' } },
        'idempotency-key-reused': [{ status: 409, where: { '/error': 'used' } }, 422],
        'version-mismatch': { status: 409, where: { '': 'no JSON' } },
        'transition-not-allowed': 418,
        'not-started': 503
      }
    })
    t.strictSame(target.understand(kind === 'place' ? place : { kind, customer: 'a', id: '1' }, answer(status, body)), expected)
  })
}

t.test('a page gives its orders and the cursor of the next page', async t => {
  const target = described({ requests: { ...least.requests, list: { path: '/orders', query: { after: '{{cursor}}' } } }, list: { orders: '/data', id: '/no', next: '/more' } })
  const list: Operation = { kind: 'list', customer: 'a' }
  t.strictSame(target.understand(list, answer(200, { data: [{ no: 1 }, { no: 2 }], more: 'c' })), { type: 'ok', ids: ['1', '2'], next: 'c' })
  t.strictSame(target.understand(list, answer(200, { data: [], more: null })), { type: 'ok', orders: [] })
  t.throws(() => target.understand(list, answer(200, {})), { message: /nothing at "\/data", where list\.orders looks/ })
})

t.test('a page that shows whole orders is compared with the answers about them', async t => {
  const target = described({
    requests: { ...least.requests, list: 'GET /orders' },
    order: { at: '/order', id: '/id', status: '/status', items: {} },
    list: { orders: '/orders' }
  })
  const order = { id: 'o1', status: 'placed', items: [{ sku: 'hot', quantity: 2 }] }
  const { order: answered } = target.understand(place, answer(201, { order }))
  t.strictSame(target.understand({ kind: 'list', customer: 'a' }, answer(200, { orders: [order] })), { type: 'ok', orders: [answered] })
  t.strictSame(target.understand({ kind: 'list', customer: 'a' }, answer(200, { orders: [{ id: 'o1' }] })), { type: 'ok', ids: ['o1'] })
})

t.test('a service is held to the further promises that it names, and to no others', async t => {
  const headers = { etag: '"1"', location: '/orders/1' }
  t.strictSame(described({}).features, [])
  t.match(Object.keys(described({}).understand(place, answer(201, { id: '1' }, headers))), ['type', 'order'])
  const target = described({
    order: { id: '/id', reference: '/note' },
    replayed: { header: 'again' },
    features: ['etag', 'location', 'if-match'],
    requests: { ...least.requests, pay: { method: 'POST', path: '/orders/{{id}}/pay', headers: { 'if-match': '{{ifMatch}}' } } }
  })
  t.strictSame(target.features, ['reference', 'replayed', 'etag', 'location', 'if-match'])
  t.match(target.understand(place, answer(201, { id: '1' }, headers)), headers)
  t.strictSame(target.request({ kind: 'pay', customer: 'a', id: '1', ifMatch: '"1"' })?.headers, { 'if-match': '"1"' })
  t.strictSame(target.request({ kind: 'pay', customer: 'a', id: '1' })?.headers, {})
})

t.test('events that the service delivers are read as the description says', async t => {
  const consumer = described({
    order: { id: '/id', version: '/v' },
    states: { placed: 'new' },
    start: { ...least.start, env: { EVENTS_URL: '{{eventsUrl}}' } },
    consumer: { orderId: '/data/no', version: '/data/v', status: '/data/state' }
  })
  t.strictSame(consumer.start({ ...runIn(t), eventsUrl: 'http://127.0.0.1:7/events' }, { index: 0, port: 1, opsPort: 2, balanced: false }).env, { EVENTS_URL: 'http://127.0.0.1:7/events' })
  const event = { data: { no: 7, v: '1', state: 'new' } }
  t.strictSame(consumer.consumer?.understand(JSON.stringify(event)), [{ orderId: '7', version: 1, type: 'placed' }])
  t.equal(consumer.consumer?.understand(JSON.stringify([event, event])).length, 2)
})

t.test('there is only one customer if a service does not tell customers apart', async t => {
  const target = described({ requests: { place: { method: 'POST', path: '/orders', body: { key: '{{key}}', order: '{{order}}' } }, read: 'GET /orders/{{id}}', list: 'GET /orders' } })
  const plan = new Plan({ seed: 1, products, target })
  plan.learn(place, { type: 'ok', op: 1, at: 0, order: { id: 'o1', status: 'placed', version: 1, currency: 'EUR', items: [], total: 0, reference: null } })
  const arrivals = Array.from({ length: 1_000 }, () => plan.next()).flat()
  t.strictSame([...new Set(arrivals.map(({ operation }) => operation.customer))].filter(customer => customer !== place.customer), ['customer'])
  t.notOk(arrivals.some(({ purpose }) => purpose === 'intrude' || purpose === 'shared-key'))
  t.strictSame(['shared-key', 'intrude', 'cancel-lines', 'list'].filter(lack => !lacksOf(target, products).includes(lack)), ['list'])
})

t.test('the stored orders may come from the service itself, over HTTP', async t => {
  const server = createServer((request, response) => {
    response.writeHead(request.headers['x-key'] === 'secret' ? 200 : 401).end(JSON.stringify({
      all: [{ no: 1, who: 'alice', idem: 'k', state: 'new', items: [{ sku: 'hot', quantity: 1 }] }],
      stock: [{ sku: 'hot', available: '9' }]
    }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const stored = { at: { orders: '/all', products: '/stock' }, order: { id: '/no', customer: '/who', key: '/idem', status: '/state' } }
  const target = described({ states: { placed: 'new' }, stored: { http: { path: '/everything', headers: { 'x-key': 'secret' } }, ...stored } })
  const run = runIn(t)
  target.start(run, { index: 0, port: (server.address() as AddressInfo).port, opsPort: 0, balanced: false })
  t.strictSame(await wholeSnapshot(target, run), {
    orders: [{ id: '1', customer: 'alice', key: 'k', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'hot', quantity: 1, unitPrice: 999 }], total: 999, reference: null }],
    products: [{ sku: 'hot', available: 9 }]
  })
  const closed = described({ stored: { http: 'GET /everything', ...stored } })
  closed.start(run, { index: 0, port: (server.address() as AddressInfo).port, opsPort: 0, balanced: false })
  await t.rejects(wholeSnapshot(closed, run), { message: /GET \/everything, was answered with 401/ })
})

t.test('the stored orders may come in pages, each with the cursor of the next', async t => {
  const page = (no: number, next: unknown) => ({ orders: [{ id: no, customer: 'alice', key: `k${no}`, status: 'placed', items: [{ sku: 'hot', quantity: 1 }] }], next })
  const pages: Record<string, unknown> = { '/orders': page(1, 'b'), '/orders?after=b': page(2, 'c'), '/orders?after=c': page(3, null), '/round': page(1, 'b'), '/round?after=b': page(1, 'b') }
  const server = createServer(({ url = '' }, response) => { response.end(JSON.stringify(pages[url])) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const run = runIn(t)
  const reading = async (path: string): Promise<Snapshot> => {
    const target = described({ stored: { http: { path, query: { after: '{{cursor}}' } }, at: { orders: '/orders', next: '/next' } } })
    target.start(run, { index: 0, port: (server.address() as AddressInfo).port, opsPort: 0, balanced: false })
    return await wholeSnapshot(target, run)
  }
  t.strictSame((await reading('/orders')).orders.map(({ key }) => key), ['k1', 'k2', 'k3'])
  await t.rejects(reading('/round'), { message: /gave the cursor b twice/ })
})

t.test('the stored orders may come from a program that prints one document, or one order per line', async t => {
  const run = runIn(t)
  const order = { id: 'o1', key: 'k', status: 'placed', items: '[{"sku":"hot","quantity":1}]' }
  const printing = (text: string): Target => described({ stored: { command: ['printf', '%s', text] }, requests: { place: { method: 'POST', path: '/', body: { key: '{{key}}', order: '{{order}}' } } } })
  const expected = { orders: [{ id: 'o1', customer: 'customer', key: 'k', status: 'placed', total: 999 }] }
  t.match(await wholeSnapshot(printing(`${JSON.stringify(order)}\n`), run), expected, 'a service that does not tell customers apart has one')
  t.match(await wholeSnapshot(printing(JSON.stringify({ orders: [order] })), run), expected)
  t.strictSame(await wholeSnapshot(printing(''), run), { orders: [] })
  await t.rejects(wholeSnapshot(printing('nothing'), run), { message: /neither JSON nor one order a line: nothing/ })
  await t.rejects(wholeSnapshot(printing(JSON.stringify({ ...order, key: undefined })), run), { message: /nothing at "\/key", where stored\.order\.key looks/ })
  await t.rejects(wholeSnapshot(described({ stored: { command: ['sh', '-c', 'echo no such table >&2; exit 3'] } }), run), { message: /failed[^]*no such table/ })
})

t.test('a description gives limits in seconds, and the products of the service', async t => {
  t.strictSame(described({ limits: { start: 120, rest: 5 } }).limits, { start: 120_000, rest: 5_000 })
  t.strictSame(described({ products: [{ sku: 'tea', unitPrice: 250, currency: 'EUR' }] }).products, [{ name: 'tea', stock: 1_000_000_000, sku: 'tea', unitPrice: 250, currency: 'EUR' }])
})

function described (parts: Partial<Description>): Target {
  return targetOf({ ...least, ...parts }, join(import.meta.dirname, 'shop.yaml'))
}

function runIn (t: Test): Run {
  return { directory: t.testdir(), databaseUrl: '', directDatabaseUrl: '', products }
}

function answer (status: number, body: unknown, headers: Record<string, string> = {}) {
  return { status, headers, body: JSON.stringify(body) }
}
