import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { createSigner } from 'fast-jwt'
import t from 'tap'
import { request } from 'undici'
import { startApp, type RunningApp } from '../app.ts'
import type { AddressInfo } from 'node:net'

interface Event {
  id: string
  event: string
  data: { orderId: string, version: number, type: string, customer: string, currency: string, total: number, at: string }
}

interface Listener {
  headers: Record<string, string | string[] | undefined>
  /** The next so many events; fewer where the stream ends before. */
  next (count: number): Promise<Event[]>
  /** Every event until the stream ends. */
  rest (): Promise<Event[]>
  leave (): void
}

/** As an EventSource does. Resolves when the stream has begun. */
async function listen (url: string, token: string, lastEventId?: string): Promise<Listener> {
  const { statusCode, headers, body } = await request(`${url}/orders/stream`, {
    headers: { authorization: `Bearer ${token}`, ...lastEventId !== undefined && { 'last-event-id': lastEventId } }
  })
  if (statusCode !== 200) throw new Error(`${statusCode}: ${await body.text()}`)
  body.on('error', () => {})
  const blocks = blocksOf(body)
  async function next (count: number): Promise<Event[]> {
    const events: Event[] = []
    while (events.length < count) {
      const { done, value } = await blocks.next()
      if (done === true) break
      const fields = Object.fromEntries(value.split('\n').map(line => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? []))
      if (fields.data !== undefined) events.push({ ...fields, data: JSON.parse(fields.data) })
    }
    return events
  }
  return { headers, next, rest: () => next(Infinity), leave: () => body.destroy() }
}

async function * blocksOf (body: AsyncIterable<Buffer>): AsyncGenerator<string, void> {
  let text = ''
  for await (const chunk of body) {
    text += chunk.toString()
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      yield text.slice(0, end)
      text = text.slice(end + 2)
    }
  }
}

async function place ({ ask, token }: RunningApp, customer: string): Promise<string> {
  const { body } = await ask<{ id: string }>('POST', '/orders', {
    token: token(customer),
    body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] },
    headers: { 'idempotency-key': randomUUID() }
  })
  return body.id
}

async function move ({ ask, token }: RunningApp, id: string, transition: string): Promise<void> {
  await ask('POST', `/orders/${id}/${transition}`, { token: token('boss', { staff: true }) })
}

const here = await startApp(t)
const there = await startApp(t, { databaseUrl: here.databaseUrl })

t.test('what happens to one\'s own orders comes in order, and nothing of another\'s', async t => {
  const stream = await listen(here.url, here.token('alice'))
  t.match(stream.headers, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
  await place(here, 'bob')
  const id = await place(here, 'alice')
  await move(here, id, 'pay')
  await move(here, await place(here, 'bob'), 'cancel')
  await move(here, id, 'cancel')

  const events = await stream.next(3)
  t.same(events.map(({ event, data }) => [event, data.type, data.orderId, data.version, data.customer]), [
    ['placed', 'placed', id, 1, 'alice'],
    ['paid', 'paid', id, 2, 'alice'],
    ['cancelled', 'cancelled', id, 3, 'alice']
  ])
  t.match(events[0]?.data, { total: 520, currency: 'EUR', at: /^\d{4}-\d\d-\d\dT.*Z$/ })
  stream.leave()
})

t.test('staff hears of its own orders, not of everybody\'s', async t => {
  const stream = await listen(here.url, here.token('boss', { staff: true }))
  await place(here, 'alice')
  const id = await place(here, 'boss')
  t.equal((await stream.next(1))[0]?.data.orderId, id)
  stream.leave()
})

t.test('with Last-Event-ID it goes on where it was, with no gap and no repeat', async t => {
  const customer = 'carol'
  const stream = await listen(here.url, here.token(customer))
  for (let n = 0; n < 3; n++) await move(here, await place(here, customer), 'pay')
  const all = await stream.next(6)
  stream.leave()
  for (let n = 0; n < 2; n++) await move(here, await place(here, customer), 'pay')

  const resumed = await listen(here.url, here.token(customer), all.at(-1)?.id)
  all.push(...await resumed.next(4))
  resumed.leave()
  t.equal(new Set(all.map(event => event.id)).size, 10)
  for (const [seen, { id }] of all.entries()) {
    const again = await listen(here.url, here.token(customer), id)
    t.same(await again.next(all.length - seen - 1), all.slice(seen + 1), `from after event ${seen + 1}`)
    again.leave()
  }
})

t.test('what happens on another instance comes too', async t => {
  const stream = await listen(here.url, here.token('dave'))
  const id = await place(there, 'dave')
  await move(here, id, 'pay')
  await move(there, id, 'cancel')
  t.same((await stream.next(3)).map(({ event, data }) => [data.orderId, event]), [[id, 'placed'], [id, 'paid'], [id, 'cancelled']])
  stream.leave()
})

t.test('resumed at an instance that is behind the one before, nothing comes twice', async t => {
  // Somebody else listens there, so that instance follows the events already; and its reads wait.
  const other = await listen(there.url, there.token('frank'))
  const { store } = there.app.orders
  const { promise: mayRead, resolve: letRead } = Promise.withResolvers<void>()
  const feed = store.feed.bind(store)
  store.feed = async (...args) => {
    await mayRead
    return await feed(...args)
  }

  const before = await listen(here.url, here.token('erin'))
  const id = await place(here, 'erin')
  const [placed] = await before.next(1)
  before.leave()
  const after = await listen(there.url, there.token('erin'), placed?.id)
  letRead()
  await move(here, id, 'pay')
  t.same((await after.next(1)).map(({ event }) => event), ['paid'])
  after.leave()
  other.leave()
})

t.test('a Last-Event-ID that no stream has given is refused', async t => {
  for (const id of ['1', 'x', '1.2.3', `1.${randomUUID()}`, `1.${randomUUID()}.1 `.padEnd(60, '0'), `${'9'.repeat(19)}.${randomUUID()}.1`]) {
    const answer = await here.ask('GET', '/orders/stream', { token: here.token('alice'), headers: { 'last-event-id': id } })
    t.equal(answer.status, 400, id)
    t.match(answer.body, { type: /\/invalid-request$/ })
  }
  t.equal((await here.ask('GET', '/orders/stream')).status, 401)
})

t.test('when a client leaves, or only asks for the head, nobody listens for it any more', async t => {
  const { feed } = here.app.orders
  while (feed.subscribers > 0) await setImmediate()
  const stream = await listen(here.url, here.token('alice'))
  t.equal(feed.subscribers, 1)
  stream.leave()
  while (feed.subscribers > 0) await setImmediate()
  await here.ask('HEAD', '/orders/stream', { token: here.token('alice') })
  t.equal(feed.subscribers, 0)
})

t.test('a stream ends with a plain close, whole', async t => {
  const app = await startApp(t, { databaseUrl: here.databaseUrl })
  const stream = await listen(app.url, app.token('grace'))
  const id = await place(app, 'grace')
  const [event] = await stream.next(1)
  t.equal(event?.data.orderId, id)
  const rest = stream.rest()
  await app.app.close()
  t.same(await rest, [])
})

t.test('streams end in a stop, also one that begins when it is closing already', async t => {
  // Its token is not checked before the key server answers, so that it comes to its handler in the closing phase.
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const asked = Promise.withResolvers<void>()
  const mayAnswer = Promise.withResolvers<void>()
  const keyServer = createServer(async (_request, response) => {
    asked.resolve()
    await mayAnswer.promise
    response.end(JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] }))
  })
  keyServer.listen(0, '127.0.0.1')
  await once(keyServer, 'listening')
  t.teardown(() => new Promise(resolve => keyServer.close(resolve)))
  const { port } = keyServer.address() as AddressInfo
  const { app, url } = await startApp(t, { databaseUrl: here.databaseUrl, auth: { jwksUrl: `http://127.0.0.1:${port}/` } })

  const token = createSigner({ key: privateKey.export({ type: 'pkcs8', format: 'pem' }), algorithm: 'ES256', kid: 'k' })({ sub: 'heidi', scope: 'orders' })
  const late = listen(url, token)
  await asked.promise
  const closing = new Promise<void>(resolve => { app.drain.on('closing', () => resolve()) })
  const stopped = app.drain.start('test')
  await closing
  mayAnswer.resolve()
  t.same(await (await late).rest(), [])
  t.match(await stopped, { exitCode: 0, requests: { abandoned: { count: 0 } } })
})

t.test('a stop ends a stream that is open, and does not wait for one whose client has left', async t => {
  const app = await startApp(t, { databaseUrl: here.databaseUrl })
  const left = await listen(app.url, app.token('ivan'))
  left.leave()
  while (app.app.orders.feed.subscribers > 0) await setImmediate()
  const rest = (await listen(app.url, app.token('ivan'))).rest()
  const report = await app.app.drain.start('test')
  t.same(await rest, [])
  t.match(report, { exitCode: 0, requests: { completed: { count: 1 }, abandoned: { count: 0 } } })
})
