import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp } from '../app.ts'

const shop = 'https://shop.example'
const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }
const asked = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization,content-type,idempotency-key' }

t.test('no page of another origin may send requests unless CORS_ORIGINS is set', async t => {
  const { ask, token } = await startApp(t)
  const preflight = await ask('OPTIONS', '/orders', { headers: { origin: shop, ...asked } })
  t.equal(preflight.status, 404)
  const answer = await ask('GET', '/products', { token: token('alice'), headers: { origin: shop } })
  for (const { headers } of [preflight, answer]) t.notOk(Object.keys(headers).some(name => name.startsWith('access-control-')))
})

t.test('pages of the origins in CORS_ORIGINS may send requests, with a token and never with a cookie', async t => {
  const { ask, token } = await startApp(t, { settings: { CORS_ORIGINS: `http://localhost:8080,${shop}` } })
  const preflight = await ask('OPTIONS', '/orders', { headers: { origin: shop, ...asked } })
  t.equal(preflight.status, 204)
  t.equal(preflight.headers['access-control-allow-origin'], shop)
  t.match(preflight.headers['access-control-allow-methods'], /POST/)
  for (const name of ['Authorization', 'Content-Type', 'Idempotency-Key', 'If-Match', 'Last-Event-ID']) t.match(preflight.headers['access-control-allow-headers'], name)
  t.match(preflight.headers.vary, /origin/i)

  const placed = await ask('POST', '/orders', { token: token('alice'), body: order, headers: { origin: shop, 'idempotency-key': randomUUID() } })
  t.equal(placed.status, 201)
  const refused = await ask('GET', '/orders', { headers: { origin: shop } })
  t.equal(refused.status, 401)
  for (const { headers } of [placed, refused]) {
    t.equal(headers['access-control-allow-origin'], shop, 'a refusal can be read too')
    for (const name of ['ETag', 'Location', 'Retry-After', 'Idempotent-Replayed']) t.match(headers['access-control-expose-headers'], name)
    t.notOk('access-control-allow-credentials' in headers)
  }

  for (const origin of ['https://evil.example', 'https://shop.example.evil.example', 'http://shop.example', 'https://shop.example:8443', 'null']) {
    const { headers } = await ask('GET', '/products', { token: token('alice'), headers: { origin } })
    t.notOk('access-control-allow-origin' in headers, origin)
    t.match(headers.vary, /origin/i, 'no cache gives it to the shop')
  }
})
