import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createTestDatabase } from '../postgres.ts'
import { startApp, type RunningApp } from '../app.ts'

const { url: databaseUrl } = await createTestDatabase(t)
const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

t.test('a request that is not complete in time gets 408', async t => {
  const { app, url, token } = await startApp(t, { databaseUrl })
  const { headersTimeout, requestTimeout, keepAliveTimeout, maxHeadersCount } = app.server
  t.match({ headersTimeout, requestTimeout, keepAliveTimeout, maxHeadersCount }, { headersTimeout: 10_000, requestTimeout: 15_000, keepAliveTimeout: 72_000 })
  t.equal(app.initialConfig.bodyLimit, 65_536)
  // Shorter times for the test. Node reads them at each check, once a second.
  app.server.headersTimeout = 200
  app.server.requestTimeout = 400

  const auth = `Host: a\r\nAuthorization: Bearer ${token('alice')}\r\n`
  const slow = {
    'half a head': 'GET /livez HTTP/1.1\r\nHost: a\r\n',
    'half a body': `POST /orders HTTP/1.1\r\n${auth}Content-Type: application/json\r\nIdempotency-Key: slow\r\nContent-Length: 100\r\n\r\n{"currency":`,
    'half of the chunks': `POST /orders HTTP/1.1\r\n${auth}Content-Type: application/json\r\nIdempotency-Key: slow\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cur\r\n`,
    'half of a second head': 'GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\n'
  }
  await Promise.all(Object.entries(slow).map(async ([what, bytes]) => {
    const socket = await open(t, url)
    socket.write(bytes)
    const text = await everything(socket)
    t.match(text, /HTTP\/1\.1 408 [^]*application\/problem\+json[^]*\/problems\/invalid-request/, what)
    t.equal(text.startsWith('HTTP/1.1 200'), what === 'half of a second head', 'the whole request before it is answered')
  }))
})

t.test('a customer above the rate limit is told to wait, and other customers are not', async t => {
  const { ask, token } = await startApp(t, { databaseUrl, settings: { RATE_LIMIT: '3' } })
  const headers = (): Record<string, string> => ({ 'idempotency-key': randomUUID() })
  for (let n = 0; n < 3; n++) t.equal((await ask('POST', '/orders', { token: token('alice'), body: { ...order, items: [{ sku: 'none', quantity: 1 }] }, headers: headers() })).status, 422)
  const limited = await ask('POST', '/orders', { token: token('alice'), body: order, headers: headers() })
  t.equal(limited.status, 429)
  t.equal(limited.headers['content-type'], 'application/problem+json')
  t.match(limited.body, { type: '/problems/rate-limited', status: 429, detail: /Nothing was stored/ })
  const wait = Number(limited.headers['retry-after'])
  t.ok(wait > 0 && wait <= 60)
  t.equal((await ask('GET', '/products', { token: token('alice') })).status, 429, 'on any route')
  t.equal((await ask('GET', '/products', { token: token('bob') })).status, 200)
  for (let n = 0; n < 5; n++) t.equal((await ask('GET', '/livez')).status, 200, 'probes have no limit')
})

t.test('no customer is limited unless RATE_LIMIT is set', async t => {
  const { ask, token } = await startApp(t, { databaseUrl })
  for (let n = 0; n < 10; n++) {
    const { status, headers } = await ask('GET', '/products', { token: token('alice') })
    if (status !== 200 || 'x-ratelimit-limit' in headers) t.fail(`answer ${n} is ${status}`)
  }
})

t.test('a start that blocked the event loop does not count as pressure', async t => {
  const { app, ask, token } = await startApp(t, {
    databaseUrl,
    extend: () => {
      blockLoop(1_100)
    }
  })
  t.ok(app.isUnderPressure(), 'it was measured')
  t.equal((await ask('GET', '/products', { token: token('alice') })).status, 200)
})

t.test('a service under pressure refuses requests as not started, but no probes, and none while it drains', async t => {
  const service = await startApp(t, { databaseUrl, settings: { DRAIN_MIN_MS: '2000', DRAIN_MAX_MS: '2000' } })
  const { app, ask, token, sql } = service
  const key = randomUUID()
  const place = async (body: object) => await ask('POST', '/orders', { token: token('alice'), body, headers: { 'idempotency-key': key } })
  let refused
  do {
    await pressOn(service)
    refused = await place(order)
  } while (refused.status !== 503)
  t.equal(refused.headers['content-type'], 'application/problem+json')
  t.equal(refused.headers['retry-after'], '1')
  t.match(refused.body, { type: '/problems/not-started', status: 503 })
  for (const probe of ['/livez', '/readyz', '/startupz']) t.equal((await ask('GET', probe)).status, 200, probe)
  t.ok(app.isUnderPressure(), 'the pressure has lasted')
  t.equal((await sql.query('SELECT FROM orders WHERE idempotency_key = $1', [key])).rowCount, 0)

  let served
  do served = await place({ ...order, items: [] })
  while (served.status === 503)
  t.equal(served.status, 400, 'the pressure passes')

  await pressOn(service)
  const stopped = app.drain.start('test')
  t.equal((await place({ ...order, items: [] })).status, 400)
  t.ok(app.isUnderPressure(), 'although it is under pressure')
  t.equal((await stopped).exitCode, 0)
})

/** Blocks the event loop until the pressure is measured. */
async function pressOn ({ app }: RunningApp): Promise<void> {
  do {
    blockLoop(1_100)
    await setImmediate()
  } while (!app.isUnderPressure())
}

function blockLoop (ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

async function open (t: Test, url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  return socket
}

async function everything (socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}
