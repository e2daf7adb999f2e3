import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { test, type Test } from 'tap'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { Expiry } from '../../orders/expiry.ts'
import { startApp, type RunningApp } from '../app.ts'
import { TestGateway } from '../payments/gateway.ts'
import { connectStore, openStore } from '../store.ts'
import { pending } from './pending.ts'

interface Order { id: string, status: string, version: number }

test('an order that is not paid in time is cancelled, its event is published, and its stock comes back', async t => {
  const messages: Array<{ type: string, detail?: unknown }> = []
  const { ask, token, sql, app } = await startApp(t, { settings: { ORDER_EXPIRY_MS: '200' }, publisher: { publish: async batch => { messages.push(...batch) } } })
  const alice = token('alice')
  const { body: { id } } = await place({ ask, token }, 3)
  await until(async () => (await ask<Order>('GET', `/orders/${id}`, { token: alice })).body.status === 'cancelled')
  t.equal(await stockOf(sql, 'malt-1989'), 5)
  await until(async () => messages.length >= 2)
  t.match(messages, [{ type: 'placed' }, { type: 'cancelled', detail: { reason: 'expired' } }])
  t.match(await ask('POST', `/orders/${id}/pay`, { token: alice }), { status: 409, body: { orderStatus: 'cancelled' } })
  await until(async () => /^orders_total\{outcome="cancelled"\} 1$/m.test(await app.metrics.render()))
})

test('an order is kept while the outcome of its payment is unknown; a payment that waits for the customer keeps it no longer than usual', async t => {
  const gateway = new TestGateway()
  gateway.plan = ['no answer', 'pending']
  const { ask, token, sql } = await startApp(t, { payments: gateway })
  const { body: { id } } = await place({ ask, token }, 1)
  const pay = async () => (await ask('POST', `/orders/${id}/pay`, { token: token('alice') })).status
  gateway.find = async () => { throw new Error('no answer') }
  t.equal(await pay(), 503)
  t.same(await expire(sql), { due: 0, expired: 0 }, 'the outcome of its payment is unknown')
  gateway.find = async () => undefined
  t.equal(await pay(), 202)
  await sql.query("UPDATE payments SET requested_at = now() + interval '2 hours'")
  t.same(await expire(sql), { due: 0, expired: 0 }, 'its customer still has time')
  await sql.query('UPDATE payments SET requested_at = now()')
  t.same(await expire(sql), { due: 1, expired: 1 })
  t.match((await sql.query('SELECT state FROM payments')).rows, [{ state: /^void/ }], 'the payment is voided')
})

test('a payment that begins during an expiry round keeps its order', async t => {
  const { store, products, sql, url } = await openStore(t)
  const id = await placeOne({ store, products })
  // Lets the test act between the check and the lock of each order.
  await sql.query(`ALTER FUNCTION is_kept RENAME TO really_kept; CREATE FUNCTION is_kept(unpaid orders, cutoff timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    DECLARE kept boolean := really_kept(unpaid, cutoff); BEGIN PERFORM pg_advisory_xact_lock(1); RETURN kept; END $$`)
  const sweeper = await connectTo(t, url)
  await sql.query('SELECT pg_advisory_lock(1)')
  const round = expire(sweeper)
  await until(async () => (await sql.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rowCount === 1)
  await sql.query("SELECT begin_payment($1, $2, 'alice', NULL, true, 60000, NULL)", [randomUUID(), id])
  await sql.query('SELECT pg_advisory_unlock(1)')
  t.same(await round, { due: 1, expired: 0 })
  t.match((await sql.query('SELECT status FROM orders')).rows, [{ status: 'placed' }])
})

test('an expiry round skips an order that is being paid, without waiting for it', async t => {
  const { store, products, sql, url } = await openStore(t)
  const id = await placeOne({ store, products })
  const payer = await connectTo(t, url)
  await payer.query('BEGIN')
  await payer.query("SELECT begin_payment($1, $2, 'alice', NULL, true, 60000, NULL)", [randomUUID(), id])
  t.same(await expire(sql), { due: 0, expired: 0 })
  await payer.query('ROLLBACK')
  t.same(await expire(sql), { due: 1, expired: 1 })
})

test('paid orders and orders from before the migration do not expire; an order whose capture failed gets its time again', async t => {
  const { store, products, sql } = await openStore(t)
  const [paid, failed] = [await placeOne({ store, products }), await placeOne({ store, products })]
  await store.transition('pay', paid, null, null)
  await sql.query('UPDATE orders SET version = 3 WHERE id = $1', [failed])
  await sql.query("INSERT INTO payments (id, order_id, attempt, amount, currency, captures, state, settled_at) VALUES (gen_random_uuid(), $1, 1, 520, 'EUR', false, 'declined', now() + interval '30 minutes')", [failed])
  t.same(await expire(sql, 0), { due: 0, expired: 0 })
  t.same(await expire(sql), { due: 1, expired: 1 }, 'its time is over')
  const old = await placeOne({ store, products })
  await sql.query("UPDATE order_expiry SET since = now() + interval '1 hour'")
  t.same(await expire(sql), { due: 0, expired: 0 })
  t.match((await sql.query('SELECT status FROM orders WHERE id = ANY ($1) ORDER BY status', [[paid, old]])).rows, [{ status: 'placed' }, { status: 'paid' }])
})

test('two instances share the due orders, and each order is cancelled once', async t => {
  const { store, products, sql, prisma, url } = await openStore(t)
  await placeMany({ store, products }, 400)
  const counts: number[] = []
  const instances = [prisma, connectStore(t, url).prisma].map(prisma => new Expiry({
    prisma,
    unpaidMs: 1,
    batchMax: 20,
    onExpired: count => counts.push(count),
    log: { info () {}, warn: (details, message) => t.fail(message, details) }
  }))
  const running = instances.map(async instance => await instance.run())
  await until(async () => (await sql.query("SELECT FROM orders WHERE status = 'placed'")).rowCount === 0)
  for (const instance of instances) instance.stop()
  await Promise.all(running)
  t.equal(counts.reduce((sum, count) => sum + count, 0), 400)
  t.equal(await stockOf(sql, 'ale'), 1_000)
  t.equal((await sql.query("SELECT FROM outbox WHERE type = 'cancelled'")).rowCount, 400)
})

test('a stop during an expiry sweep ends clean, and another instance finishes the sweep', async t => {
  const { url, store, sql, products } = await openStore(t)
  await placeMany({ store, products }, 1_000)
  const left = async () => (await sql.query("SELECT FROM orders WHERE status = 'placed'")).rowCount ?? 0
  const first = await startApp(t, { databaseUrl: url, settings: { ORDER_EXPIRY_MS: '1' } })
  await until(async () => await left() < 1_000)
  t.match(await first.app.drain.start('test'), { exitCode: 0 })
  t.ok(await left() > 0, 'the stop came during the sweep')
  await startApp(t, { databaseUrl: url, settings: { ORDER_EXPIRY_MS: '1' } })
  await until(async () => await left() === 0)
  t.equal(await stockOf(sql, 'ale'), 1_000)
})

test('an expiry round reads no more than its batch, by index', async t => {
  const { sql } = await openStore(t)
  await sql.query(`INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at, status)
    SELECT first_uuid_at(now() + n * interval '1 ms'), 'alice', n::text, 'a', 'EUR', 0, now(), CASE n % 2 WHEN 0 THEN 'placed' ELSE 'paid' END::order_status FROM generate_series(1, 20000) AS n`)
  await sql.query('VACUUM ANALYZE orders')
  const readOf = async () => (await sql.query<{ scans: number, fetched: number }>("SELECT seq_scan::integer AS scans, idx_tup_fetch::integer AS fetched FROM pg_stat_xact_user_tables WHERE relname = 'orders'")).rows[0]
  await sql.query('BEGIN')
  const before = await readOf()
  t.same(await expire(sql, -3_600_000, 100), { due: 100, expired: 100 })
  const after = await readOf()
  await sql.query('COMMIT')
  t.equal(after?.scans, before?.scans, 'no full scan')
  const fetched = (after?.fetched ?? Infinity) - (before?.fetched ?? 0)
  t.ok(fetched <= 600, `${fetched} rows were read for 100 orders`)
})

test('no order expires if the time to pay is 0', async t => {
  const prisma = { $queryRaw: () => { throw new Error('a query was sent') } }
  await new Expiry({ prisma, unpaidMs: 0, log: { info () {}, warn: (details, message) => t.fail(message, details) } }).run()
})

async function place ({ ask, token }: Pick<RunningApp, 'ask' | 'token'>, quantity: number) {
  return await ask<Order>('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'malt-1989', quantity }] }, headers: { 'idempotency-key': randomUUID() } })
}

type Stores = Pick<Awaited<ReturnType<typeof openStore>>, 'store' | 'products'>

async function placeMany ({ store, products }: Stores, count: number): Promise<void> {
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })
  await store.place(Array.from({ length: count }, (_, n) => ({ ...pending(n), id: uuidv7(Date.now()) })))
}

async function placeOne ({ store, products }: Stores): Promise<string> {
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })
  const id = uuidv7(Date.now())
  await store.place([{ ...pending(1), id, idempotencyKey: id }])
  return id
}

/** @param unpaidMs by default, orders that fall due within an hour are due too */
async function expire (sql: pg.Client, unpaidMs = -3_600_000, howMany = 10): Promise<unknown> {
  return (await sql.query('SELECT * FROM expire_orders($1, $2)', [unpaidMs, howMany])).rows[0]
}

async function stockOf (sql: pg.Client, sku: string): Promise<number> {
  return Number((await sql.query<{ stock: string }>('SELECT stock FROM products WHERE sku = $1', [sku])).rows[0]?.stock)
}

async function connectTo (t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(async () => { await client.end() })
  return client
}

async function until (is: () => Promise<boolean>): Promise<void> {
  while (!await is()) await new Promise(resolve => setImmediate(resolve))
}
