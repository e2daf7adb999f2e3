import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { Retention } from '../../orders/retention.ts'
import { faultOfUrl, isPublic, postWebhook } from '../../plugins/webhook-post.ts'
import { startApp, type AppOverrides } from '../app.ts'
import { connectStore } from '../store.ts'

interface Webhook { id: string, url: string, secret: string }
interface Delivery {
  id: string
  orderId: string
  version: number
  type: string
  state: string
  tries: number
  dueAt: string | null
  lastStatus: number | null
  lastError: string | null
}
interface Received { path: string, headers: IncomingHttpHeaders, body: string }

/** A customer's system, which records what it receives. */
async function startEndpoint (t: Test, answer: (response: ServerResponse, received: Received) => void = response => response.writeHead(204).end()) {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const taken = { path: request.url ?? '', headers: request.headers, body: await text(request) }
    received.push(taken)
    answer(response, taken)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('The endpoint has no port')
  return { received, port: address.port, url: `http://127.0.0.1:${address.port}/hook` }
}

async function start (t: Test, overrides: AppOverrides = {}) {
  const running = await startApp(t, { ...overrides, settings: { WEBHOOKS_PRIVATE_ADDRESSES: 'true', ...overrides.settings } })
  const { ask, token, sql, app } = running
  return {
    ...running,
    add: async (url: string, as = 'alice') => await ask<Webhook & { type: string, detail: string }>('POST', '/webhooks', { token: token(as), body: { url } }),
    place: async (as = 'alice') => (await ask<{ id: string }>('POST', '/orders', { token: token(as), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })).body.id,
    deliveries: async (id: string, as = 'alice') => (await ask<{ deliveries: Delivery[], next: string | null }>('GET', `/webhooks/${id}/deliveries`, { token: token(as) })).body.deliveries,
    replay: async (id: string, delivery: string, as = 'alice') => await ask<Delivery>('POST', `/webhooks/${id}/deliveries/${delivery}/replay`, { token: token(as) }),
    /** Makes paused and leased deliveries due now. */
    hurry: async () => {
      await sql.query('UPDATE webhook_deliveries SET due_at = now() WHERE due_at IS NOT NULL')
      app.webhooks.wake()
    }
  }
}

async function until (is: () => boolean | Promise<boolean>): Promise<void> {
  while (!await is()) await new Promise(resolve => setImmediate(resolve))
}

t.test('an endpoint gets signed events of the orders of its customer, and of no other', async t => {
  const endpoint = await startEndpoint(t)
  const { add, place, deliveries, ask, token } = await start(t)
  const { status, body: { id, secret } } = await add(endpoint.url)
  t.equal(status, 201)
  t.match(secret, /^whsec_[A-Za-z0-9+/]{43}=$/)
  await place('bob')
  const order = await place()
  await ask('POST', `/orders/${order}/cancel`, { token: token('alice') })
  await until(async () => (await deliveries(id)).filter(({ state }) => state === 'delivered').length === 2)
  t.equal(endpoint.received.length, 2)
  for (const { headers, body } of endpoint.received) {
    const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`
    t.equal(headers['webhook-signature'], `v1,${createHmac('sha256', Buffer.from(secret.slice(6), 'base64')).update(signed).digest('base64')}`)
    t.match(JSON.parse(body), { type: /^order\.(placed|cancelled)$/, timestamp: /Z$/, data: { orderId: order, customer: 'alice', total: 520 } })
  }
  t.match((await deliveries(id)).map(({ type, state, tries, lastStatus, dueAt }) => ({ type, state, tries, lastStatus, dueAt })), [
    { type: 'order.cancelled', state: 'delivered', tries: 1, lastStatus: 204, dueAt: null },
    { type: 'order.placed', state: 'delivered', tries: 1, lastStatus: 204, dueAt: null }
  ], 'newest first')
  const listed = await ask('GET', '/webhooks', { token: token('alice') })
  t.match(listed.body, { webhooks: [{ id, url: endpoint.url }] })
  t.notMatch(listed.text, secret, 'the secret is shown once')
})

t.test('a delivery that its endpoint refuses is retried with the same id, fails after the last try, and can be replayed', async t => {
  let status = 500
  const endpoint = await startEndpoint(t, response => response.writeHead(status, { location: '/elsewhere' }).end())
  const { add, place, deliveries, hurry, sql, replay } = await start(t)
  const { body: { id } } = await add(endpoint.url)
  await place()
  await until(async () => (await deliveries(id))[0]?.lastStatus === 500)
  t.match(await deliveries(id), [{ state: 'pending', tries: 1, dueAt: /Z$/ }])
  status = 307
  await hurry()
  await until(async () => (await deliveries(id))[0]?.lastStatus === 307)
  t.match(await deliveries(id), [{ state: 'pending', tries: 2 }], 'a redirect is no delivery')
  t.same(endpoint.received.map(({ path }) => path), ['/hook', '/hook'], 'a redirect is not followed')
  await sql.query('UPDATE webhook_deliveries SET tries = 9')
  await hurry()
  await until(async () => (await deliveries(id))[0]?.state === 'failed')
  const [failed] = await deliveries(id)
  t.match(failed, { tries: 10, dueAt: null })
  status = 200
  t.match(await replay(id, failed?.id ?? ''), { status: 202, body: { state: 'pending' } })
  await until(async () => (await deliveries(id))[0]?.state === 'delivered')
  t.match(await deliveries(id), [{ tries: 1, lastStatus: 200 }])
  t.equal(new Set(endpoint.received.map(({ headers }) => headers['webhook-id'])).size, 1)
  t.match(await replay(id, failed?.id ?? ''), { status: 202 }, 'a delivered one can be replayed too')
  await until(() => endpoint.received.length === 5)
})

t.test('an event that is published twice makes one delivery', async t => {
  const endpoint = await startEndpoint(t)
  let calls = 0
  const { add, place, deliveries, sql, app } = await start(t, { publisher: { publish: async () => { if (++calls === 1) throw new Error('the broker is away') } } })
  const { body: { id } } = await add(endpoint.url)
  await place()
  await until(async () => {
    await sql.query('UPDATE outbox SET available_at = now() WHERE available_at IS NOT NULL')
    app.orders.wakeRelay()
    return calls > 1
  })
  await until(async () => (await deliveries(id))[0]?.state === 'delivered')
  t.equal((await deliveries(id)).length, 1)
})

t.test('an endpoint that hangs holds up neither other endpoints nor a stop, and the next process sends what was cut', async t => {
  let hangs = true
  let [open, openMax] = [0, 0]
  const hanging = await startEndpoint(t, response => {
    openMax = Math.max(openMax, ++open)
    response.on('close', () => open--)
    if (!hangs) response.end()
  })
  const quick = await startEndpoint(t)
  const { add, place, app, sql, databaseUrl } = await start(t)
  const { body: { id } } = await add(hanging.url)
  await add(quick.url)
  for (let n = 0; n < 10; n++) await place()
  await until(() => quick.received.length === 10 && hanging.received.length >= 4)
  t.match(await app.drain.start('test'), { exitCode: 0 })
  t.equal(openMax, 4, 'at most four deliveries to it were open')
  t.equal((await sql.query("SELECT FROM webhook_deliveries WHERE endpoint_id = $1 AND state = 'pending'", [id])).rowCount, 10)
  t.equal((await sql.query("SELECT FROM webhook_deliveries WHERE last_error LIKE 'A stop of the service cut%' AND due_at <= now()")).rowCount, 4, 'a delivery that was cut is due at once')
  hangs = false
  await start(t, { databaseUrl })
  await until(async () => (await sql.query("SELECT FROM webhook_deliveries WHERE state = 'delivered'")).rowCount === 20)
})

t.test('two instances make each delivery once', async t => {
  const endpoint = await startEndpoint(t)
  const first = await start(t)
  const second = await start(t, { databaseUrl: first.databaseUrl })
  const { body: { id } } = await first.add(endpoint.url)
  await Promise.all([first, second].flatMap(({ place }) => Array.from({ length: 20 }, async () => await place())))
  await until(async () => (await first.sql.query("SELECT FROM webhook_deliveries WHERE state = 'delivered'")).rowCount === 40)
  t.equal(endpoint.received.length, 40)
  const page = await first.ask<{ deliveries: Delivery[], next: string }>('GET', `/webhooks/${id}/deliveries?limit=30`, { token: first.token('alice') })
  const rest = await first.ask<{ deliveries: Delivery[], next: null }>('GET', `/webhooks/${id}/deliveries?limit=30&cursor=${page.body.next}`, { token: first.token('alice') })
  t.equal(rest.body.next, null)
  t.equal(new Set([...page.body.deliveries, ...rest.body.deliveries].map(({ id }) => id)).size, 40)
})

t.test('a customer may have ten webhooks, cannot see those of another, and gets nothing at a deleted one', async t => {
  const endpoint = await startEndpoint(t)
  const { add, place, deliveries, ask, token, replay } = await start(t)
  const { body: { id } } = await add(endpoint.url)
  await place()
  await until(async () => (await deliveries(id))[0]?.state === 'delivered')
  const [delivery] = await deliveries(id)
  const mallory = token('mallory')
  t.match((await ask('GET', '/webhooks', { token: mallory })).body, { webhooks: [] })
  t.equal((await ask('GET', `/webhooks/${id}/deliveries`, { token: mallory })).status, 404)
  t.equal((await replay(id, delivery?.id ?? '', 'mallory')).status, 404)
  t.equal((await ask('DELETE', `/webhooks/${id}`, { token: mallory })).status, 404)
  t.match(await ask('DELETE', `/webhooks/${id}`, { token: token('alice') }), { status: 204, text: '' })
  t.equal((await ask('GET', `/webhooks/${id}/deliveries`, { token: token('alice') })).status, 404)
  const other = await startEndpoint(t)
  for (let n = 0; n < 10; n++) t.equal((await add(n === 0 ? other.url : `https://example.org/${n}`, 'alice')).status, 201)
  t.match(await add(endpoint.url), { status: 409, body: { type: '/problems/too-many-webhooks' } })
  await place()
  await until(() => other.received.length === 1)
  t.equal(endpoint.received.length, 1)
})

t.test('no webhook is sent to an address that is not public, whatever its name', async t => {
  const endpoint = await startEndpoint(t)
  const { add } = await start(t, { settings: { WEBHOOKS_PRIVATE_ADDRESSES: 'false' } })
  for (const url of [endpoint.url, `http://localhost:${endpoint.port}/`, 'http://[::1]/', 'http://[::ffff:127.0.0.1]/', 'http://2130706433/', 'http://10.1.2.3/', 'http://169.254.169.254/latest', 'https://user:secret@example.org/', 'ftp://example.org/', 'nonsense']) {
    t.match(await add(url), { status: 400, body: { type: '/problems/invalid-request', detail: /Nothing was stored/ } }, url)
  }
  t.equal((await add('https://example.org/hook')).status, 201)
  t.equal(faultOfUrl('http://example.org/', { production: true, allowsPrivate: false }), 'it is not https')
  t.equal(faultOfUrl('http://example.org/', { production: true, allowsPrivate: true }), 'it is not https')
  t.equal(faultOfUrl('http://example.org/', { production: false, allowsPrivate: false }), undefined)

  // The lookup for the connection itself finds out a name that leads to a private address.
  await t.rejects(postWebhook(`http://localhost:${endpoint.port}/`, {}, '', AbortSignal.timeout(5_000), false), /no public address/)
  await t.rejects(postWebhook(endpoint.url, {}, '', AbortSignal.timeout(5_000), false), /no public address/)
  t.equal(endpoint.received.length, 0)
  t.equal(await postWebhook(`http://localhost:${endpoint.port}/`, {}, '', AbortSignal.timeout(5_000), true), 204)
})

t.test('isPublic accepts public addresses only', async t => {
  for (const address of ['1.1.1.1', '172.32.0.1', '192.169.0.1', '2606:4700:4700::1111']) t.equal(isPublic(address), true, address)
  for (const address of ['0.0.0.0', '10.0.0.1', '100.64.0.1', '127.0.0.2', '169.254.169.254', '172.31.255.255', '192.168.0.1', '224.0.0.1', '255.255.255.255', '::', '::1', '::ffff:1.1.1.1', '64:ff9b::a00:1', 'fe80::1', 'fd00::1', 'ff02::1', '2002:a00:1::', '2001:db8::1', 'example.org']) t.equal(isPublic(address), false, address)
})

t.test('retention deletes old deliveries that are over, and keeps those that are pending', async t => {
  const endpoint = await startEndpoint(t)
  const { add, place, deliveries, sql, databaseUrl } = await start(t)
  const { body: { id } } = await add(endpoint.url)
  for (let n = 0; n < 3; n++) await place()
  await until(async () => (await deliveries(id)).filter(({ state }) => state === 'delivered').length === 3)
  const [newest, second, oldest] = await deliveries(id)
  await sql.query("UPDATE webhook_deliveries SET state = 'pending', due_at = now() + interval '1 hour' WHERE id = $1", [second?.id])
  await sql.query("UPDATE webhook_deliveries SET id = first_uuid_at(now() - interval '31 days' + version * interval '1 ms' + CASE id WHEN $1 THEN interval '1 s' ELSE interval '0' END) WHERE id <> $2", [second?.id, newest?.id])
  t.not(oldest, undefined)
  const { prisma } = connectStore(t, databaseUrl)
  const retention = new Retention({
    prisma,
    outboxMs: 0,
    stopsMs: 0,
    deliveriesMs: 30 * 86_400_000,
    log: { warn: (details, message) => t.fail(message, details), debug () {} }
  })
  const running = retention.run()
  await until(async () => (await deliveries(id)).length === 2)
  retention.stop()
  await running
  t.match((await deliveries(id)).map(({ state }) => state), ['delivered', 'pending'])
})
