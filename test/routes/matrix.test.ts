import { createHmac, createSign, generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'
import { request } from 'undici'
import { startApp } from '../app.ts'
import type { AddressInfo } from 'node:net'

const expected = { issuer: 'https://issuer.example/', audience: ['last-orders'] }
const leewayS = 30

// An issuer's keys, because only a public key can be mistaken for a secret.
const keys = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const strangers = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const issuer = createServer((_request, response) => {
  response.end(JSON.stringify({ keys: [{ ...keys.publicKey.export({ format: 'jwk' }), kid: 'key', alg: 'RS256', use: 'sig' }] }))
}).listen(0, '127.0.0.1')
await once(issuer, 'listening')
t.teardown(() => issuer.close())

const { app, url, sql } = await startApp(t, {
  auth: { jwksUrl: `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/`, ...expected },
  settings: { PAYMENTS_NOTIFY_SECRET: 'a secret of the gateway, for tests' }
})

const rights = ['orders', 'staff', 'refunds'] as const
type Right = typeof rights[number]

/** A token of the issuer, changed by what is given. A claim that is undefined is left out. */
function tokenOf (
  sub: string,
  scope: string,
  { header = {}, claims = {}, signature = signed() }: { header?: object, claims?: object, signature?: (input: string) => string } = {}
): string {
  const now = Math.floor(Date.now() / 1_000)
  const parts = [{ alg: 'RS256', kid: 'key', typ: 'at+jwt', ...header }, { sub, scope, iss: expected.issuer, aud: expected.audience, exp: now + 3_600, ...claims }]
  const input = parts.map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${input}.${signature(input)}`
}

function signed (key = keys.privateKey): (input: string) => string {
  return input => createSign('sha256').update(input).sign(key, 'base64url')
}

const now = Math.floor(Date.now() / 1_000)
const all = rights.join(' ')
const pem = keys.publicKey.export({ type: 'spki', format: 'pem' }).toString()

/** Each would be a token of the owner with every right, but for one fault. */
const invalidTokens: Record<string, string | undefined> = {
  nobody: undefined,
  garbage: 'garbage',
  expired: tokenOf('owner', all, { claims: { exp: now - leewayS - 1 } }),
  'without an end': tokenOf('owner', all, { claims: { exp: undefined } }),
  'not yet': tokenOf('owner', all, { claims: { nbf: now + 3_600 } }),
  'other audience': tokenOf('owner', all, { claims: { aud: ['another'] } }),
  'no audience': tokenOf('owner', all, { claims: { aud: undefined } }),
  'other issuer': tokenOf('owner', all, { claims: { iss: 'https://issuer.example.evil/' } }),
  'no issuer': tokenOf('owner', all, { claims: { iss: undefined } }),
  'ID token': tokenOf('owner', all, { header: { typ: 'id+jwt' } }),
  'alg none': tokenOf('owner', all, { header: { alg: 'none' }, signature: () => '' }),
  'confused alg': tokenOf('owner', all, { header: { alg: 'HS256' }, signature: input => createHmac('sha256', pem).update(input).digest('base64url') }),
  'other key': tokenOf('owner', all, { signature: signed(strangers.privateKey) })
}

/** Callers with a valid token, and their rights. */
const callers = {
  'no right': { sub: 'owner', scopes: [] },
  other: { sub: 'other', scopes: ['orders'] },
  owner: { sub: 'owner', scopes: ['orders'] },
  staff: { sub: 'boss', scopes: ['staff'] },
  refunder: { sub: 'cashier', scopes: ['refunds'] }
} as const satisfies Record<string, { sub: string, scopes: readonly Right[] }>
type Caller = keyof typeof callers

interface Operation {
  security?: object[]
  responses: Record<string, object>
}

interface Asked {
  path: string
  body?: unknown
  headers?: Record<string, string>
}

interface Entry {
  /** The status that each caller gets: 403 if a right is missing, 404 if the thing is another customer's. */
  gets: Record<Exclude<Caller, 'no right'>, number>
  /** A request that can succeed, on things that are made for the owner. */
  ask: () => Promise<Asked>
}

const key = () => ({ 'idempotency-key': randomUUID() })
const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }] }
const ofOwner = tokenOf('owner', 'orders')
const ofStaff = tokenOf('boss', 'staff')

async function placed (): Promise<string> {
  return JSON.parse((await send('POST', { path: '/orders', body: order, headers: key() }, ofOwner)).text).id
}

async function paid (): Promise<string> {
  const id = await placed()
  await send('POST', { path: `/orders/${id}/pay` }, ofOwner)
  return id
}

async function shipped (): Promise<string> {
  const id = await paid()
  await send('POST', { path: `/orders/${id}/ship` }, ofStaff)
  return id
}

async function webhook (): Promise<string> {
  await sql.query("DELETE FROM webhook_endpoints WHERE customer = 'owner'")
  return JSON.parse((await send('POST', { path: '/webhooks', body: { url: 'https://hooks.example/in' } }, ofOwner)).text).id
}

const ofEverybody = { other: 200, owner: 200, staff: 200, refunder: 403 }
const ofItsOwner = { other: 404, owner: 200, staff: 200, refunder: 403 }
const ofStaffAlone = (status: number) => ({ other: 403, owner: 403, staff: status, refunder: 403 })

/** Every route that takes a token. A new route without an entry fails the test below. */
const entries: Record<string, Entry> = {
  'GET /orders': { gets: ofEverybody, ask: async () => ({ path: '/orders' }) },
  'POST /orders': { gets: { other: 201, owner: 201, staff: 403, refunder: 403 }, ask: async () => ({ path: '/orders', body: order, headers: key() }) },
  'GET /orders/stream': { gets: ofEverybody, ask: async () => ({ path: '/orders/stream' }) },
  'GET /orders/{id}': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await placed()}` }) },
  'GET /orders/{id}/events': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await placed()}/events` }) },
  'GET /orders/{id}/payments': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await paid()}/payments` }) },
  'GET /orders/{id}/payments/{payment}': {
    gets: ofItsOwner,
    ask: async () => {
      const path = `/orders/${await paid()}/payments`
      return { path: `${path}/${JSON.parse((await send('GET', { path }, ofOwner)).text).payments[0].id}` }
    }
  },
  'GET /orders/{id}/returns': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await paid()}/returns` }) },
  'POST /orders/{id}/pay': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await placed()}/pay` }) },
  'POST /orders/{id}/ship': { gets: ofStaffAlone(200), ask: async () => ({ path: `/orders/${await paid()}/ship` }) },
  'POST /orders/{id}/deliver': { gets: ofStaffAlone(200), ask: async () => ({ path: `/orders/${await shipped()}/deliver` }) },
  'POST /orders/{id}/cancel': { gets: ofItsOwner, ask: async () => ({ path: `/orders/${await placed()}/cancel` }) },
  'POST /orders/{id}/refunds': { gets: { other: 403, owner: 403, staff: 403, refunder: 201 }, ask: async () => ({ path: `/orders/${await paid()}/refunds`, body: { amount: 1 }, headers: key() }) },
  'POST /orders/{id}/returns': { gets: ofStaffAlone(201), ask: async () => ({ path: `/orders/${await paid()}/returns`, body: { items: [{ sku: 'ale-pint', quantity: 1 }], restock: true }, headers: key() }) },
  'GET /products': { gets: ofEverybody, ask: async () => ({ path: '/products' }) },
  'GET /products/{sku}': { gets: ofEverybody, ask: async () => ({ path: '/products/ale-pint' }) },
  'PUT /products/{sku}': { gets: ofStaffAlone(201), ask: async () => ({ path: `/products/${randomUUID()}`, body: { name: 'New', unitPrice: 1, currency: 'EUR', stock: 1 } }) },
  'DELETE /products/{sku}': { gets: ofStaffAlone(200), ask: async () => ({ path: '/products/crisps' }) },
  'GET /products/{sku}/stock': { gets: ofStaffAlone(200), ask: async () => ({ path: '/products/ale-pint/stock' }) },
  'POST /products/{sku}/stock': { gets: ofStaffAlone(201), ask: async () => ({ path: '/products/ale-pint/stock', body: { delta: 1, reason: 'delivery' }, headers: key() }) },
  'GET /webhooks': { gets: { other: 200, owner: 200, staff: 403, refunder: 403 }, ask: async () => ({ path: '/webhooks' }) },
  'POST /webhooks': { gets: { other: 201, owner: 201, staff: 403, refunder: 403 }, ask: async () => ({ path: '/webhooks', body: { url: 'https://hooks.example/in' } }) },
  'DELETE /webhooks/{id}': { gets: { other: 404, owner: 204, staff: 403, refunder: 403 }, ask: async () => ({ path: `/webhooks/${await webhook()}` }) },
  'GET /webhooks/{id}/deliveries': { gets: { other: 404, owner: 200, staff: 403, refunder: 403 }, ask: async () => ({ path: `/webhooks/${await webhook()}/deliveries` }) },
  'POST /webhooks/{id}/deliveries/{delivery}/replay': {
    gets: { other: 404, owner: 202, staff: 403, refunder: 403 },
    ask: async () => {
      const [endpoint, delivery] = [await webhook(), randomUUID()]
      await sql.query("INSERT INTO webhook_deliveries (id, endpoint_id, order_id, version, payload, state, due_at) VALUES ($1, $2, $1, 1, '{}', 'failed', NULL)", [delivery, endpoint])
      return { path: `/webhooks/${endpoint}/deliveries/${delivery}/replay` }
    }
  }
}

/** For everybody, whatever token they send. */
const open: Record<string, number> = { 'GET /livez': 200, 'GET /readyz': 200, 'GET /startupz': 200, 'GET /openapi.json': 200, 'GET /docs': 200, 'GET /docs/': 200, 'GET /docs/json': 200, 'GET /docs/yaml': 200 }
/** Routes that need a signature instead of a token. */
const bySignature = ['POST /payments/notifications']
/** Files of the page that shows the document. */
const files = /^\/docs\/(static\/|uiConfig$|initOAuth$|\*$)/

const document = JSON.parse((await send('GET', { path: '/openapi.json' }, undefined)).text) as { paths: Record<string, Record<string, Operation>> }
const operations = new Map<string, Operation>(Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => [`${method.toUpperCase()} ${path}`, operation] as const)))

t.test('every route is in the table of rights, also one that the document hides', async t => {
  t.same([...operations.keys()].filter(name => !(name in entries) && !(name in open) && !bySignature.includes(name)), [], 'every route of the document has an entry')
  t.same([...Object.keys(entries), ...bySignature].filter(name => !operations.has(name)), [], 'every entry has a route')
  t.same([...operations].filter(([, { security }]) => security?.length === 0).map(([name]) => name).sort(), Object.keys(open).filter(name => operations.has(name)).concat(bySignature).sort(), 'the routes without a token are the open ones')

  // The metrics name every registered route, also one that the document hides.
  const measured = [...(await app.metrics.render()).matchAll(/^http_server_request_duration_seconds_count\{(.*)\} /gm)].map(([, labels = '']) => {
    const [, method = ''] = /http_request_method="([^"]*)"/.exec(labels) ?? []
    const [, route = ''] = /http_route="([^"]*)"/.exec(labels) ?? []
    return { method: method === 'HEAD' ? 'GET' : method, route: route.replaceAll(/:(\w+)/g, '{$1}') }
  })
  t.ok(measured.length > 100)
  t.same(measured.filter(({ method, route }) => {
    const name = `${method} ${route}`
    return !(name in entries) && !(name in open) && !bySignature.includes(name) && !files.test(route)
  }), [])
})

for (const [name, { gets, ask }] of Object.entries(entries)) {
  const [method = ''] = name.split(' ')
  t.test(`${name} answers each caller by their rights, and stores nothing for those it refuses`, async t => {
    const asked = await ask()
    const before = await stored()
    for (const [who, token] of Object.entries(invalidTokens)) {
      const { status, headers, text } = await send(method, asked, token)
      t.equal(status, 401, who)
      t.match(headers, { 'content-type': 'application/problem+json', 'www-authenticate': 'Bearer' }, who)
      t.match(JSON.parse(text), { type: '/problems/unauthenticated' }, who)
    }
    if (method === 'GET' && !name.endsWith('stream')) t.equal((await send('HEAD', asked, undefined)).status, 401, 'HEAD without a token')
    t.same(await stored(), before, 'nothing is stored for an invalid token')

    for (const [who, { sub, scopes }] of Object.entries(callers)) {
      const status = who === 'no right' ? 403 : gets[who as Exclude<Caller, 'no right'>]
      const asked = await ask()
      const before = await stored()
      const answer = await send(method, asked, tokenOf(sub, scopes.join(' ')))
      t.equal(answer.status, status, who)
      t.ok(operations.get(name)?.responses[answer.status], `${answer.status} is in the document`)
      if (status >= 400) {
        t.same(await stored(), before, `nothing is stored for ${who}`)
        t.match(JSON.parse(answer.text), { type: status === 403 ? '/problems/forbidden' : '/problems/not-found' })
      }
    }
  })
}

t.test('a list of orders or webhooks holds nothing of another customer', async t => {
  await placed()
  await webhook()
  const listed = async (path: string, token: string): Promise<unknown[]> => Object.values(JSON.parse((await send('GET', { path }, token)).text) as object).find(value => Array.isArray(value)) ?? []
  const stranger = tokenOf('stranger', 'orders')
  for (const path of ['/orders', '/webhooks']) {
    t.ok((await listed(path, ofOwner)).length > 0, path)
    t.same(await listed(path, stranger), [], path)
  }
  t.equal((await send('GET', { path: '/orders?customer=owner' }, stranger)).status, 403)
  t.equal((await send('GET', { path: '/orders/stream?customer=owner' }, stranger)).status, 403)
  t.ok((await listed('/orders?customer=owner', ofStaff)).length > 0)
})

t.test('an open route answers everybody, whatever token they send', async t => {
  for (const [name, status] of Object.entries(open)) {
    for (const [who, token] of Object.entries(invalidTokens)) t.equal((await send('GET', { path: name.split(' ')[1] ?? '' }, token)).status, status, `${name}: ${who}`)
  }
})

t.test('the notifications of the gateway refuse every token that comes without a signature', async t => {
  const before = await stored()
  for (const [who, token] of [...Object.entries(invalidTokens), ['every right', tokenOf('boss', all)] as const]) {
    const { status, text } = await send('POST', { path: '/payments/notifications', body: { type: 'payment.changed', id: randomUUID() } }, token)
    t.equal(status, 401, who)
    t.match(JSON.parse(text), { type: '/problems/signature-invalid' }, who)
  }
  t.same(await stored(), before)
})

/** Counts rows and changes, once no payment or refund of earlier requests is open. */
async function stored (): Promise<unknown> {
  for (let open = 1; open > 0;) {
    const { payments, refunds } = await app.payments.store.unsettled()
    open = payments + refunds
  }
  const { rows: [counts] } = await sql.query(`SELECT
    (SELECT count(*) FROM orders) AS orders, (SELECT sum(version) FROM orders) AS moves,
    (SELECT count(*) FROM payments) AS payments, (SELECT count(*) FROM refunds) AS refunds,
    (SELECT count(*) FROM products) AS products, (SELECT sum(version) FROM products) AS changes, (SELECT sum(stock) FROM products) AS stock,
    (SELECT count(*) FROM webhook_endpoints) AS webhooks, (SELECT count(*) FROM webhook_deliveries WHERE state = 'failed') AS failed`)
  return counts
}

async function send (method: string, { path, body, headers = {} }: Asked, token: string | undefined) {
  const answer = await request(url + path, {
    method,
    headers: { ...token !== undefined && { authorization: `Bearer ${token}` }, ...body !== undefined && { 'content-type': 'application/json' }, ...headers },
    body: body === undefined ? null : JSON.stringify(body)
  })
  // An event stream has no end.
  if (String(answer.headers['content-type']).startsWith('text/event-stream')) {
    answer.body.on('error', () => {}).destroy()
    return { status: answer.statusCode, headers: answer.headers, text: '' }
  }
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() }
}
