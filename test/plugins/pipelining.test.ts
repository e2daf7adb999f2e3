import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createTestDatabase } from '../postgres.ts'
import { startApp, type RunningApp } from '../app.ts'

const { url: databaseUrl } = await createTestDatabase(t)

/** A service with a route that answers when the test lets it: GET /held/:n. */
async function startHeld (t: Test): Promise<RunningApp & { begun: string[], release: (n: string) => void, releaseAll: () => void }> {
  const begun: string[] = []
  const waiting = new Map<string, () => void>()
  let isOpen = false
  const service = await startApp(t, {
    databaseUrl,
    extend: app => app.get<{ Params: { n: string } }>('/held/:n', async ({ params: { n } }) => {
      begun.push(n)
      if (!isOpen) await new Promise<void>(resolve => waiting.set(n, resolve))
      return `held ${n}`
    })
  })
  const releaseAll = (): void => {
    isOpen = true
    for (const resolve of waiting.values()) resolve()
  }
  t.teardown(async () => releaseAll())
  return { ...service, begun, release: n => waiting.get(n)?.(), releaseAll }
}

function requests (count: number): string {
  return Array.from({ length: count }, (_, n) => `GET /held/${n} HTTP/1.1\r\nHost: a\r\n\r\n`).join('')
}

async function open (t: Test, { url }: RunningApp): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(async () => { socket.destroy() })
  await once(socket, 'connect')
  return socket
}

async function readAnswers (socket: Socket, count: number): Promise<string[]> {
  let text = ''
  for await (const chunk of socket) {
    text += String(chunk)
    const bodies = [...text.matchAll(/held (\d+)/g)].map(([, n]) => n ?? '')
    if (bodies.length >= count) return bodies
  }
  return []
}

t.test('sixteen requests of a connection are under way, the rest waits, and all are answered in order', async t => {
  const service = await startHeld(t)
  const socket = await open(t, service)
  socket.write(requests(100))
  while (service.begun.length < 16) await setImmediate()
  t.equal((await service.ask('GET', '/livez')).status, 200, 'other connections are served')
  t.equal(service.begun.length, 16)
  t.equal(service.app.requests.active, 16)
  service.release('0')
  while (service.begun.length < 17) await setImmediate()
  t.equal(service.begun[16], '16', 'one ends, and one begins')
  service.releaseAll()
  t.same(await readAnswers(socket, 100), Array.from({ length: 100 }, (_, n) => String(n)))
})

t.test('a connection with sixteen requests under way is not read, and a long pipeline is answered whole', async t => {
  const service = await startHeld(t)
  const accepted = once(service.app.server, 'connection') as Promise<[Socket]>
  const socket = await open(t, service)
  const [other] = await accepted
  const text = requests(200_000)
  socket.write(text)
  while (service.begun.length < 16) await setImmediate()
  await service.ask('GET', '/livez')
  t.ok(other.bytesRead < 200_000, `${other.bytesRead} of ${text.length} bytes were read`)
  socket.destroy()
  service.releaseAll()

  const next = await open(t, service)
  next.write(requests(5_000))
  t.equal((await readAnswers(next, 5_000)).length, 5_000)
})

t.test('a stop serves the requests of a pipeline that have begun, and answers the others "not started"', async t => {
  const service = await startHeld(t)
  const socket = await open(t, service)
  socket.write(requests(40))
  while (service.begun.length < 16) await setImmediate()
  const closing = new Promise<void>(resolve => service.app.drain.on('closing', () => resolve()))
  const stopped = service.app.drain.start('test')
  await closing
  service.releaseAll()
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  t.equal(text.match(/HTTP\/1\.1 200/g)?.length, 16)
  t.equal(text.match(/HTTP\/1\.1 503[^]*?\/problems\/not-started/g)?.length, 24)
  t.equal(service.begun.length, 16)
  const { exitCode, requests: { completed, refused } } = await stopped
  t.match({ exitCode, completed: completed.count, refused: refused.count }, { exitCode: 0, completed: 16, refused: 24 })
})

t.test('every request of a pipeline ends when its client disconnects', async t => {
  const service = await startHeld(t)
  const socket = await open(t, service)
  socket.write(requests(16))
  while (service.begun.length < 16) await setImmediate()
  socket.destroy()
  while (service.app.requests.active > 0) await setImmediate()
  service.releaseAll()
  t.equal((await service.app.drain.start('test')).exitCode, 0)
})

t.test('no request of a pipeline begins once a write has shown that the client is gone', async t => {
  const service = await startHeld(t)
  const accepted = once(service.app.server, 'connection') as Promise<[Socket]>
  const socket = await open(t, service)
  const [other] = await accepted
  socket.write(requests(200))
  while (service.begun.length < 16) await setImmediate()
  socket.destroy()
  for (let n = 0; !other.destroyed; n++) {
    service.release(String(n))
    for (let turn = 0; turn < 10; turn++) await setImmediate()
  }
  while (service.app.requests.active > 0) await setImmediate()
  service.releaseAll()
  t.equal((await service.ask('GET', '/livez')).status, 200)
  t.ok(service.begun.length < 40, `${service.begun.length} of 200 were begun`)
  t.equal((await service.app.drain.start('test')).exitCode, 0)
})

t.test('orders in a pipeline are dropped when its client disconnects, except those in a batch', async t => {
  const service = await startApp(t, { settings: { INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '1' } })
  const { app, sql, token } = service
  await sql.query("BEGIN; SELECT FROM products WHERE sku = 'ale-pint' FOR UPDATE")
  const socket = await open(t, service)
  const body = JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
  socket.write(Array.from({ length: 10 }, (_, n) => `POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token('alice')}\r\nIdempotency-Key: key-${n}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`).join(''))
  while (app.orders.intake.queued < 9) await setImmediate()
  socket.destroy()
  while (app.orders.intake.queued > 0) await setImmediate()
  await sql.query('ROLLBACK')
  while (app.orders.intake.batches > 0) await setImmediate()
  t.same((await sql.query('SELECT idempotency_key AS key FROM orders')).rows, [{ key: 'key-0' }])
})
