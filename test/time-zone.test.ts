import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { buildOps } from '../ops.ts'
import { migrate } from '../prisma/migrate.ts'
import { startApp, type AppOverrides } from './app.ts'
import { pgbouncerMissing, startPgBouncer } from './pgbouncer.ts'
import { createTestDatabase, timeZone } from './postgres.ts'
import { connectStore } from './store.ts'
import type { OrderMessage } from '../orders/publisher.ts'

// Every test's database is in another zone than UTC (test/postgres.ts). Debian's Postgres is in the zone of its machine.

interface Order { id: string, createdAt: string, status: string }

t.test('the database of a test has a time zone far from UTC', async t => {
  const { url } = await createTestDatabase(t)
  t.same(await rows(url, "SELECT current_setting('TimeZone') AS zone"), [{ zone: timeZone }])
})

t.test('every answer about an order has the same creation time', async t => {
  await tellsOneTime(t)
})

t.test('every answer has the same creation time even if the URL and the database set other zones and styles of dates', async t => {
  const { url } = await createTestDatabase(t)
  await rows(url, 'DO $$ BEGIN EXECUTE format(\'ALTER DATABASE %I SET DateStyle TO %L\', current_database(), \'German, DMY\'); END $$')
  const odd = new URL(url)
  odd.searchParams.set('options', '-c TimeZone=America/St_Johns -c DateStyle=SQL,MDY')
  await rows(url, "INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
  await tellsOneTime(t, { databaseUrl: odd.href })
})

t.test('every answer has the same creation time through PgBouncer in transaction mode', { skip: pgbouncerMissing }, async t => {
  const { url } = await createTestDatabase(t)
  await rows(url, "INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
  const pooled = await startPgBouncer(t, url)
  // Another client of the pooler sets another zone on the same few connections.
  const other = new pg.Client({ connectionString: pooled.url })
  await other.connect()
  t.teardown(() => other.end())
  const told = new AbortController()
  const disturbing = (async () => {
    while (!told.signal.aborted) await other.query("SET TimeZone TO 'America/St_Johns'; SELECT pg_sleep(0.01)")
  })()
  await tellsOneTime(t, { databaseUrl: pooled.url })
  told.abort()
  await disturbing
})

t.test('a second instance lists the orders page by page, with unchanged times', async t => {
  const first = await startApp(t)
  const token = first.token('alice')
  const placed: Order[] = []
  for (let n = 0; n < 5; n++) placed.unshift((await place(first, token)).body)
  const second = await startApp(t, { databaseUrl: first.databaseUrl })
  const seen: Order[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const { body }: { body: { orders: Order[], next: string | null } } = await second.ask('GET', `/orders?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`, { token })
    seen.push(...body.orders)
    cursor = body.next
  }
  t.same(seen, placed)
})

t.test('the end of a process is reported with its right time, and counts as recent', async t => {
  const { app, databaseUrl } = await startApp(t)
  const begun = Date.now()
  await app.drain.start('test')
  const ended = Date.now()
  const [stop] = await rows<{ started_at: Date, stopping_at: Date, finished_at: Date }>(databaseUrl, 'SELECT started_at, stopping_at, finished_at FROM stops')
  t.ok(
    stop !== undefined && begun <= stop.stopping_at.getTime() && stop.stopping_at <= stop.finished_at && stop.finished_at.getTime() <= ended,
    JSON.stringify(stop)
  )

  const next = await startApp(t, { databaseUrl })
  t.equal((await next.app.stops.recent()).clean, 1)
  const ops = await buildOps({ app: next.app, config: { ops: { host: '127.0.0.1', port: 0, token: undefined } }, logger: pino({ level: 'silent' }) })
  t.teardown(() => ops.close())
  const { reports } = (await ops.inject('/reports')).json() as { reports: Array<Record<'startedAt' | 'stoppingAt' | 'finishedAt', string | null>> }
  t.same(reports[1], {
    ...reports[1],
    startedAt: stop?.started_at.toISOString(),
    stoppingAt: stop?.stopping_at.toISOString(),
    finishedAt: stop?.finished_at.toISOString()
  })
})

t.test('leases and retries of events begin and end on time', async t => {
  const { url } = await createTestDatabase(t)
  const { store } = connectStore(t, url)
  await rows(url, "INSERT INTO products VALUES ('ale', 'Pint of ale', 520, 'EUR', 10)")
  await store.place([{ id: randomUUID(), customer: 'alice', idempotencyKey: 'key', fingerprint: 'aa', currency: 'EUR', reference: null, createdAt: new Date(), items: [{ sku: 'ale', quantity: 1 }] }])
  const [event] = await store.claimEvents(10, 60_000)
  t.ok(event !== undefined && isNow(event.at))
  t.same(await store.claimEvents(10, 60_000), [], 'under lease')
  if (event !== undefined) await store.settleEvents([], [{ event, error: 'no', retryInMs: 0, isCounted: true }])
  t.equal((await store.claimEvents(10, 60_000)).length, 1, 'due at once')
})

t.test('the record of a migration has the time at which the migration ran', async t => {
  const { url } = await createTestDatabase(t, { empty: true })
  await migrate({ url })
  for (const { started_at: started, finished_at: finished } of await rows<{ started_at: Date, finished_at: Date }>(url, 'SELECT started_at, finished_at FROM _prisma_migrations')) {
    t.ok(isNow(started) && isNow(finished), `${started.toISOString()} ${finished.toISOString()}`)
  }
})

async function tellsOneTime (t: Test, overrides: AppOverrides = {}): Promise<void> {
  const published: OrderMessage[] = []
  const running = await startApp(t, { ...overrides, publisher: { async publish (messages) { published.push(...messages) } } })
  const { ask, token: tokenOf, sql, url } = running
  const customer = randomUUID()
  const token = tokenOf(customer)
  const { body: stream } = await request(`${url}/orders/stream`, { headers: { authorization: `Bearer ${token}` } })
  stream.on('error', () => {})
  t.teardown(() => stream.destroy())

  const key = randomUUID()
  const placed = await place(running, token, key)
  t.equal(placed.status, 201, placed.text)
  const { id, createdAt } = placed.body
  t.ok(isNow(new Date(createdAt)), createdAt)
  const stored = await sql.query<{ ms: string }>('SELECT extract(epoch FROM created_at) * 1000 AS ms FROM orders WHERE id = $1', [id])
  t.equal(Number(stored.rows[0]?.ms), Date.parse(createdAt), 'the stored order')

  t.equal((await place(running, token, key)).body.createdAt, createdAt, 'a replay')
  t.equal((await ask<Order>('GET', `/orders/${id}`, { token })).body.createdAt, createdAt, 'GET')
  t.equal((await ask<{ orders: Order[] }>('GET', '/orders', { token })).body.orders[0]?.createdAt, createdAt, 'the list')
  t.equal((await ask<Order>('POST', `/orders/${id}/pay`, { token })).body.createdAt, createdAt, 'a transition')

  const { events } = (await ask<{ events: Array<{ type: string, at: string }> }>('GET', `/orders/${id}/events`, { token })).body
  t.match(events, [{ type: 'placed', at: createdAt }, { type: 'paid' }])
  const paidAt = events[1]?.at ?? ''
  t.ok(isNow(new Date(paidAt)), paidAt)

  let text = ''
  for await (const chunk of stream) {
    text += String(chunk)
    if (/event: paid\ndata: .*\n\n/.test(text)) break
  }
  t.same([...text.matchAll(/"at":"([^"]+)"/g)].map(([, at]) => at), [createdAt, paidAt], 'the stream')
  while (published.length < 2) await setImmediate()
  t.same(published.map(({ at }) => at), [createdAt, paidAt], 'the published events')
}

async function place ({ ask }: Awaited<ReturnType<typeof startApp>>, token: string, key: string = randomUUID()) {
  return await ask<Order>('POST', '/orders', { token, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': key } })
}

/** Two zones differ by at least a quarter of an hour. */
function isNow (time: Date): boolean {
  return Math.abs(Date.now() - time.getTime()) < 5 * 60_000
}

async function rows<Row extends pg.QueryResultRow> (url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}
