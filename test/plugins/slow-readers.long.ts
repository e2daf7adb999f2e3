import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { buildOps } from '../../ops.ts'
import { startApp, type RunningApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

// In parallel, because these tests wait more than they work.
t.jobs = 4

const { url: databaseUrl } = await createTestDatabase(t)
/** More than the kernels of both sides buffer. */
const large = Buffer.alloc(20_000_000, 'x')

async function start (t: Test): Promise<RunningApp & { release: () => void, cuts: (port?: string) => Promise<number> }> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const service = await startApp(t, {
    databaseUrl,
    extend: app => {
      app.get('/large', async () => large)
      // The kernel buffers it whole, so that nothing of it waits in this process.
      app.get('/page', async () => large.subarray(0, 600_000))
      app.get('/endless', async (_request, reply) => reply.send(new Readable({ read () { this.push(large.subarray(0, 65_536)) } })))
      app.get('/held', async () => await promise)
    }
  })
  return {
    ...service,
    release: () => resolve('released'),
    cuts: async (port = 'api') => Number(new RegExp(`connections_turned_away_total\\{port="${port}",reason="slow-reader"\\} (\\d+)`).exec(await service.app.metrics.render())?.[1])
  }
}

t.test('a client that does not read its answer is cut; one that waits, listens to a quiet stream, is idle or reads slowly is not', async t => {
  const service = await start(t)
  const { url, token, cuts, release } = service
  const patient = await ask(t, url, 'GET /held')
  const rested = await ask(t, url, 'GET /livez')
  await once(rested, 'data')
  const listener = await ask(t, url, `GET /orders/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token('alice')}`)
  await once(listener, 'data')
  const slow = await ask(t, url, 'GET /large')
  const readSlowly = takeEvery(slow, 500)

  const unread = ['GET /large', 'GET /page', 'GET /endless', 'GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(200) + 'GET /large'].map(async request => {
    return (await ask(t, url, request)).pause()
  })
  await until(async () => await cuts() === 4)
  for (const socket of unread) t.equal(await endOf(await socket), 'ECONNRESET')

  release()
  t.match(String(await once(patient, 'data')), /^HTTP\/1\.1 200 /)
  rested.write('GET /livez HTTP/1.1\r\nHost: a\r\n\r\n')
  t.match(String(await once(rested, 'data')), /^HTTP\/1\.1 200 /)
  await place(service, 'alice')
  for await (const chunk of listener) if (String(chunk).includes('event: placed')) break
  t.notOk(slow.closed)
  readSlowly.stop()
  t.equal(await cuts(), 4)
})

t.test('a client that reads a byte now and then is cut too', async t => {
  const { url, cuts } = await start(t)
  const socket = await ask(t, url, 'GET /large')
  const reading = takeEvery(socket, 1_000, 1)
  await until(async () => await cuts() === 1)
  reading.stop()
  t.equal(await endOf(socket), 'ECONNRESET')
})

t.test('an event stream whose client reads nothing is cut', { skip: process.platform !== 'linux' && 'Only Linux tells what the kernel holds.' }, async t => {
  const service = await start(t)
  const { url, token, sql, cuts } = service
  const socket = await ask(t, url, `GET /orders/stream HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token('c'.repeat(250))}`)
  await once(socket, 'data')
  socket.pause()
  // Less than the kernel buffers, so that nothing of it waits in this process.
  await sql.query(`
    WITH placed AS (
      INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
      SELECT gen_random_uuid(), repeat('c', 250), gen_random_uuid(), '', 'EUR', 520, now() FROM generate_series(1, 2000) RETURNING id
    )
    INSERT INTO outbox (order_id, version, type, attempts, available_at) SELECT id, 1, 'placed', 1, NULL FROM placed`)
  await until(async () => await cuts() === 1)
  t.equal(await endOf(socket), 'ECONNRESET')
})

t.test('a client of the ops port that reads nothing is cut too', async t => {
  const service = await start(t)
  const ops = await buildOps({ app: service.app, config: { ops: { host: '127.0.0.1', port: 0, token: undefined } }, logger: service.app.log })
  t.teardown(async () => await ops.close())
  ops.get('/large', async () => large)
  const url = await ops.listen({ host: '127.0.0.1', port: 0 })
  const socket = (await ask(t, url, 'GET /large')).pause()
  await until(async () => await service.cuts('ops') === 1)
  t.equal(await endOf(socket), 'ECONNRESET')
})

/** @param head of one request or several, whose last one lacks its end */
async function ask (t: Test, url: string, head: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  socket.write(head.endsWith(' HTTP/1.1') || /^GET \S+$/m.test(head) ? `${head} HTTP/1.1\r\nHost: localhost\r\n\r\n` : `${head}\r\n\r\n`)
  return socket
}

/** The error that ended the socket. Resumes it, because a paused one does not notice. */
async function endOf (socket: Socket): Promise<string | undefined> {
  socket.resume()
  const [error] = await Promise.race([once(socket, 'close').then(() => []), new Promise<[NodeJS.ErrnoException]>(resolve => socket.once('error', error => resolve([error])))])
  return error?.code
}

async function until (holds: () => Promise<boolean>): Promise<void> {
  while (!await holds()) await delay(50)
}

/** Reads up to `bytes` every `ms`. */
function takeEvery (socket: Socket, ms: number, bytes = 65_536): { stop: () => void } {
  socket.pause()
  const timer = setInterval(() => socket.read(bytes), ms)
  return { stop: () => clearInterval(timer) }
}

async function place ({ ask, token, sql }: RunningApp, customer: string): Promise<void> {
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
  await ask('POST', '/orders', { token: token(customer), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': crypto.randomUUID() } })
}
