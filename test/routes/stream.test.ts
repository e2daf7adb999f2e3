import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { createSigner } from 'fast-jwt'
import t from 'tap'
import { request } from 'undici'
import { signToken } from '../../auth/local-token.ts'
import { secret, startApp, type RunningApp } from '../app.ts'
import { serviceWaitsForLock } from '../faults.ts'
import type { AddressInfo } from 'node:net'

interface Event {
  id: string
  event: string
  data: { orderId: string, version: number, type: string, customer: string, currency: string, total: number, at: string }
}

interface Listener {
  headers: Record<string, string | string[] | undefined>
  /** The next `count` events; fewer if the stream ends before. */
  next (count: number): Promise<Event[]>
  /** Every event until the stream ends. */
  rest (): Promise<Event[]>
  /** Why the stream ended, if it said so. */
  words (): string | undefined
  leave (): void
}

/** Connects as an EventSource does. Resolves when the stream has begun. */
async function listen (url: string, token: string, lastEventId?: string, query = ''): Promise<Listener> {
  const { statusCode, headers, body } = await request(`${url}/orders/stream${query}`, {
    headers: { authorization: `Bearer ${token}`, ...lastEventId !== undefined && { 'last-event-id': lastEventId } }
  })
  if (statusCode !== 200) {
    const problem = await body.text()
    // A busy machine is under pressure, and refuses: nothing was stored, so the test asks again.
    if (statusCode === 503) return await listen(url, token, lastEventId, query)
    throw new Error(`${statusCode}: ${problem}`)
  }
  body.on('error', () => {})
  const blocks = blocksOf(body)
  let words: string | undefined
  async function next (count: number): Promise<Event[]> {
    const events: Event[] = []
    while (events.length < count) {
      const { done, value } = await blocks.next()
      if (done === true) break
      if (value.startsWith(': this stream ends')) words = value
      const fields = Object.fromEntries(value.split('\n').map(line => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? []))
      if (fields.data !== undefined) events.push({ ...fields, data: JSON.parse(fields.data) })
    }
    return events
  }
  return { headers, next, rest: () => next(Infinity), words: () => words, leave: () => body.destroy() }
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

async function place ({ ask, token }: RunningApp, customer: string, sku = 'ale-pint'): Promise<string> {
  const { body } = await ask<{ id: string }>('POST', '/orders', {
    token: token(customer),
    body: { currency: 'EUR', items: [{ sku, quantity: 1 }] },
    headers: { 'idempotency-key': randomUUID() }
  })
  return body.id
}

async function move ({ ask, token }: RunningApp, id: string, transition: string): Promise<void> {
  await ask('POST', `/orders/${id}/${transition}`, { token: token('boss', { staff: true }) })
}

/** Inserts orders at once, each with an event of half a kilobyte. */
async function placeMany (count: number): Promise<number> {
  await here.sql.query(`
    WITH placed AS (
      INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
      SELECT gen_random_uuid(), repeat('c', 250), gen_random_uuid(), '', 'EUR', 520, now() FROM generate_series(1, $1) RETURNING id
    )
    INSERT INTO outbox (order_id, version, type, attempts, available_at) SELECT id, 1, 'placed', 1, NULL FROM placed`, [count])
  return count
}

/** Resolves when the feed has read once more. */
async function polled ({ app: { orders: { store } } }: RunningApp): Promise<void> {
  const { feed } = store
  await new Promise<void>(resolve => {
    store.feed = async (...args) => {
      store.feed = feed
      return await store.feed(...args).finally(resolve)
    }
  })
}

const here = await startApp(t)
const there = await startApp(t, { databaseUrl: here.databaseUrl })

t.test('the stream of a customer has the events of their own orders, in order, and of no others', async t => {
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

t.test('staff can follow the orders of everybody, or of one customer', async t => {
  const staff = here.token('boss', { staff: true })
  const [all, ofAlice] = await Promise.all([listen(here.url, staff), listen(here.url, staff, undefined, '?customer=alice')])
  const ids = [await place(here, 'bob'), await place(there, 'alice'), await place(here, 'boss')]
  t.same((await all.next(3)).map(({ data }) => data.orderId), ids)
  await move(here, ids[1] ?? '', 'pay')
  t.same((await ofAlice.next(2)).map(({ event, data }) => [data.orderId, event]), [[ids[1], 'placed'], [ids[1], 'paid']])
  t.equal((await all.next(1))[0]?.event, 'paid')
  all.leave()
  ofAlice.leave()
})

t.test('only staff may follow another customer, and the stream refuses an invalid query', async t => {
  const refused = async (query: string) => {
    const { status, body } = await here.ask<{ type: string }>('GET', `/orders/stream?${query}`, { token: here.token('alice') })
    return [status, body.type]
  }
  for (const query of ['customer=bob', 'customer=nobody']) t.same(await refused(query), [403, '/problems/forbidden'], query)
  for (const query of ['customer=', 'customer=a%00', 'customer=alice&customer=bob', 'status=paid', 'lastEventId=1']) t.same(await refused(query), [400, '/problems/invalid-request'], query)
  const own = await listen(here.url, here.token('alice'), undefined, '?customer=alice')
  const id = await place(here, 'alice')
  t.equal((await own.next(1))[0]?.data.orderId, id)
  own.leave()
})

t.test('a customer who resumes with an id from the stream of all gets only their own events', async t => {
  const all = await listen(here.url, here.token('boss', { staff: true }))
  await place(here, 'rita')
  const [first] = await all.next(1)
  all.leave()
  await place(here, 'rita')
  const id = await place(here, 'sam')
  const own = await listen(here.url, here.token('sam'), first?.id)
  t.equal((await own.next(1))[0]?.data.orderId, id)
  own.leave()
})

t.test('the stream of staff has every event once, also of orders that waited for a lock, wherever it resumes', async t => {
  const staff = here.token('boss', { staff: true })
  const stream = await listen(here.url, staff)
  // A stream begins at the last poll, so that events of the test before this one may come first.
  const begun = await place(here, 'ulf')
  while ((await stream.next(1))[0]?.data.orderId !== begun);
  await here.sql.query("BEGIN; SELECT FROM products WHERE sku = 'malt-1989' FOR UPDATE")
  // These orders have their ids, and wait.
  const waiting = ['tina', 'uwe'].map(customer => place(here, customer, 'malt-1989'))
  await serviceWaitsForLock(here.sql)
  const quick = [await place(there, 'vera'), await place(there, 'vera')]
  await move(there, quick[0] ?? '', 'pay')
  await polled(here)
  await here.sql.query('COMMIT')
  const placed = [...await Promise.all(waiting), ...quick]
  await move(here, placed[0] ?? '', 'pay')

  const events = await stream.next(6)
  stream.leave()
  t.same(new Set(events.map(({ data }) => `${data.orderId} ${data.version}`)), new Set([...placed.map(id => `${id} 1`), `${quick[0]} 2`, `${placed[0]} 2`]))
  for (const [seen, { id }] of events.entries()) {
    const again = await listen(there.url, staff, id)
    t.same(await again.next(events.length - seen - 1), events.slice(seen + 1), `from after event ${seen + 1}`)
    again.leave()
  }
})

t.test('one read of the database serves all streams', async t => {
  const { store } = here.app.orders
  const feed = store.feed.bind(store)
  const ids: string[] = []
  store.feed = async (...args) => {
    const read = await feed(...args)
    ids.push(...read.events.map(({ event }) => event.orderId))
    return read
  }
  t.teardown(() => { store.feed = feed })
  const streams = await Promise.all(Array.from({ length: 12 }, (_, n) => listen(here.url, here.token(n < 6 ? 'boss' : 'walt', { staff: n < 6 }))))
  const id = await place(here, 'walt')
  for (const stream of streams) t.equal((await stream.next(1))[0]?.data.orderId, id)
  t.same(ids, [id])
  for (const stream of streams) stream.leave()
})

t.test('staff who come back after many more events than may wait in memory get them all, in one stream', async t => {
  const staff = here.token('boss', { staff: true })
  const before = await listen(here.url, staff)
  await place(here, 'alice')
  const [seen] = await before.next(1)
  before.leave()
  const count = await placeMany(3_500)
  const after = await listen(here.url, staff, seen?.id)
  const events = await after.next(count)
  t.equal(new Set(events.map(({ data }) => data.orderId)).size, count)
  const id = await place(here, 'alice')
  t.equal((await after.next(1))[0]?.data.orderId, id, 'new events follow')
  after.leave()
})

t.test('a stream whose reader is too slow ends with a reason, and a reconnect misses and repeats no event', async t => {
  const { feed } = here.app.orders
  while (feed.subscribers > 0) await setImmediate()
  const staff = here.token('boss', { staff: true })
  const slow = await listen(here.url, staff)
  let count = 0
  // The client does not read, so that what the kernel does not buffer waits in the service.
  while (feed.subscribers > 0) count += await placeMany(2_000)
  const taken = await slow.rest()
  t.ok(taken.length < count)
  t.match(slow.words(), /its reader was slower than the events\. Nothing is lost: connect again/)
  const again = await listen(here.url, staff, taken.at(-1)?.id)
  const events = [...taken, ...await again.next(count - taken.length)]
  again.leave()
  t.equal(new Set(events.map(({ data }) => data.orderId)).size, count)
})

t.test('a stream that cannot read earlier events ends with a reason, and the next stream goes on', async t => {
  const { store } = here.app.orders
  const stream = await listen(here.url, here.token('alice'))
  await place(here, 'alice')
  const [event] = await stream.next(1)
  stream.leave()
  const id = await place(here, 'alice')
  const feed = store.feed.bind(store)
  store.feed = async () => { throw new Error('The database has gone.') }
  const cut = await listen(here.url, here.token('alice'), event?.id)
  t.same(await cut.rest(), [])
  store.feed = feed
  t.match(cut.words(), /^: this stream ends, as the database did not give what came before\. Nothing is lost: connect again with the last id as Last-Event-ID\.$/)
  const next = await listen(here.url, here.token('alice'), event?.id)
  t.equal((await next.next(1))[0]?.data.orderId, id)
  next.leave()
})

t.test('a stream resumes after its Last-Event-ID, with no gap and no repeat', async t => {
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

t.test('a stream has the events of other instances too', async t => {
  const stream = await listen(here.url, here.token('dave'))
  const id = await place(there, 'dave')
  await move(here, id, 'pay')
  await move(there, id, 'cancel')
  t.same((await stream.next(3)).map(({ event, data }) => [data.orderId, event]), [[id, 'placed'], [id, 'paid'], [id, 'cancelled']])
  stream.leave()
})

t.test('a stream that resumes at an instance that is behind gets no event twice', async t => {
  // Another client listens there, so that this instance follows the events already. Its reads wait.
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

t.test('a client that leaves, or that asks with HEAD, keeps no subscription', async t => {
  const { feed } = here.app.orders
  while (feed.subscribers > 0) await setImmediate()
  const stream = await listen(here.url, here.token('alice'))
  t.equal(feed.subscribers, 1)
  stream.leave()
  while (feed.subscribers > 0) await setImmediate()
  await here.ask('HEAD', '/orders/stream', { token: here.token('alice') })
  t.equal(feed.subscribers, 0)
})

t.test('streams are limited in all and per customer, a refused one keeps nothing, and a client that leaves makes room', async t => {
  const { app, url, ask, token } = await startApp(t, { databaseUrl: here.databaseUrl, settings: { STREAMS_MAX: '3', STREAMS_PER_CUSTOMER: '2' } })
  const { feed } = app.orders
  const streams = [await listen(url, token('kim')), await listen(url, token('kim'))]
  const refused = async (customer: string): Promise<object> => {
    const { status, headers, body } = await ask<{ type: string }>('GET', '/orders/stream', { token: token(customer) })
    return { status, type: body.type, wait: headers['retry-after'] }
  }
  t.same(await refused('kim'), { status: 429, type: '/problems/rate-limited', wait: '10' })
  streams.push(await listen(url, token('lee')))
  t.same(await refused('lee'), { status: 503, type: '/problems/not-started', wait: '10' })
  t.same(await refused('kim'), { status: 429, type: '/problems/rate-limited', wait: '10' }, 'the limit per customer comes first')
  t.equal(feed.subscribers, 3)
  t.equal((await ask('GET', '/orders', { token: token('kim') })).status, 200, 'other requests are served')

  streams[0]?.leave()
  while (feed.subscribers > 2) await setImmediate()
  streams.push(await listen(url, token('kim')))
  for (const stream of streams) stream.leave()
  while (feed.subscribers > 0) await setImmediate()
  for (const customer of ['kim', 'kim', 'lee']) (await listen(url, token(customer))).leave()
})

t.test('a client that leaves before its stream has begun takes no place', async t => {
  const service = await startApp(t, { databaseUrl: here.databaseUrl, settings: { STREAMS_MAX: '1' } })
  const { app, url, token } = service
  const { store } = app.orders
  const { feedHorizon } = store
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  store.feedHorizon = async () => {
    asked.resolve()
    await answer.promise
    return await feedHorizon.call(store)
  }
  const abort = new AbortController()
  const left = request(`${url}/orders/stream`, { headers: { authorization: `Bearer ${token('mia')}` }, signal: abort.signal })
  await asked.promise
  abort.abort()
  await t.rejects(left)
  while (app.requests.active > 0) await setImmediate()
  answer.resolve()
  const stream = await listen(url, token('mia'))
  const id = await place(service, 'mia')
  t.equal((await stream.next(1))[0]?.data.orderId, id)
  t.equal(app.orders.feed.subscribers, 1)
  stream.leave()
})

t.test('a plain close of the app ends a stream without an error', async t => {
  const app = await startApp(t, { databaseUrl: here.databaseUrl })
  const stream = await listen(app.url, app.token('grace'))
  const id = await place(app, 'grace')
  const [event] = await stream.next(1)
  t.equal(event?.data.orderId, id)
  const rest = stream.rest()
  await app.app.close()
  t.same(await rest, [])
})

t.test('a stop ends all streams, also one that begins during the closing phase', async t => {
  // The key server delays the check of the token, so that the request reaches its handler in the closing phase.
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
  const arrived = Promise.withResolvers<void>()
  const { app, url } = await startApp(t, {
    databaseUrl: here.databaseUrl,
    auth: { jwksUrl: `http://127.0.0.1:${port}/` },
    extend: app => app.addHook('onRequest', (_request, _reply, done) => {
      arrived.resolve()
      done()
    })
  })

  const token = createSigner({ key: privateKey.export({ type: 'pkcs8', format: 'pem' }), algorithm: 'ES256', kid: 'k' })({ sub: 'heidi', scope: 'orders', exp: Math.floor(Date.now() / 1_000) + 3_600 })
  const late = listen(url, token)
  await Promise.all([asked.promise, arrived.promise])
  const closing = new Promise<void>(resolve => { app.drain.on('closing', () => resolve()) })
  const stopped = app.drain.start('test')
  await closing
  mayAnswer.resolve()
  t.same(await (await late).rest(), [])
  t.match(await stopped, { exitCode: 0, requests: { abandoned: { count: 0 } } })
})

t.test('a stream ends with a reason when its token expires, and goes on with a new token', async t => {
  const secondsLeft = 5
  // The service accepts a token for half a minute longer, because clocks may differ by that.
  const brief = signToken({ secret, sub: 'judy', expiresInMs: 1_000 * (secondsLeft - 30) })
  const stream = await listen(here.url, brief)
  const first = await place(here, 'judy')
  const [seen] = await stream.next(1)
  t.equal(seen?.data.orderId, first)
  t.same(await stream.rest(), [])
  t.match(stream.words(), /^: this stream ends, as its token has expired\. Nothing is lost: connect again with a new token and the last id as Last-Event-ID\.$/)

  const missed = await place(here, 'judy')
  await t.rejects(listen(here.url, brief, seen?.id), /^401/)
  const next = await listen(here.url, here.token('judy'), seen?.id)
  t.equal((await next.next(1))[0]?.data.orderId, missed)
  next.leave()
})

t.test('a token that is valid for longer than a timer can run ends no stream', async t => {
  const stream = await listen(here.url, signToken({ secret, sub: 'judy', expiresInMs: 2 ** 32 }))
  for (let n = 0; n < 3; n++) {
    const id = await place(here, 'judy')
    t.equal((await stream.next(1))[0]?.data.orderId, id)
  }
  t.equal(stream.words(), undefined)
  stream.leave()
})

t.test('a stop ends an open stream, and does not wait for one whose client has left', async t => {
  const app = await startApp(t, { databaseUrl: here.databaseUrl })
  const left = await listen(app.url, app.token('ivan'))
  left.leave()
  while (app.app.orders.feed.subscribers > 0) await setImmediate()
  const rest = (await listen(app.url, app.token('ivan'))).rest()
  const report = await app.app.drain.start('test')
  t.same(await rest, [])
  t.match(report, { exitCode: 0, requests: { completed: { count: 1 }, abandoned: { count: 0 } } })
})
