import { randomUUID } from 'node:crypto'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { test, type Test } from 'tap'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { OrderFeed, type FeedMessage } from '../../orders/feed.ts'
import type { OrderStore } from '../../orders/store.ts'
import { migrate } from '../../prisma/migrate.ts'
import { readMigrations } from '../../prisma/migration-files.ts'
import { createTestDatabase } from '../postgres.ts'
import { connectStore, openStore } from '../store.ts'

// A test's database is a copy of a template. Its first write begins an epoch, as after a restore.

test('concurrent batches that are the first after a start of the server begin one epoch, and a feed misses none of their orders', async t => {
  const { url, sql } = await openStore(t)
  await stock(sql)
  const stores = Array.from({ length: 4 }, () => connectStore(t, url).store)
  const feed = follow(t, connectStore(t, url).store)
  await feed.subscribe('alice')
  // Opens a session for each store, so that the batches meet in the database.
  await Promise.all(stores.map(store => store.list({ customer: null, limit: 1 })))
  const ids = (await Promise.all(stores.flatMap(store => [place(store, 3), place(store, 3)]))).flat()
  await feed.has(ids.length)
  t.same(new Set(feed.messages.map(idOf)), new Set(ids))
  t.same((await sql.query('SELECT epoch FROM epochs ORDER BY epoch')).rows, [{ epoch: 0 }, { epoch: 1 }])
  t.same((await sql.query('SELECT DISTINCT tx >> 48 AS epoch FROM outbox')).rows, [{ epoch: '1' }])
  t.same((await sql.query('SELECT count(*)::int AS foreign FROM outbox_leases WHERE tx NOT IN (SELECT tx FROM outbox)')).rows, [{ foreign: 0 }])
})

test('a transaction that waits while another begins an epoch begins none itself', async t => {
  const { url, store, sql } = await openStore(t)
  await stock(sql)
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  t.teardown(async () => await other.end())
  const { rows: [{ pid } = {}] } = await other.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  // The other session finds no epoch for this life of the server, and then has to wait for the events.
  await sql.query('BEGIN')
  await sql.query('LOCK TABLE outbox')
  const begun = other.query<{ epoch: number }>('SELECT current_epoch() AS epoch')
  while ((await sql.query("SELECT FROM pg_locks WHERE pid = $1 AND relation = 'outbox'::regclass AND NOT granted", [pid])).rowCount === 0);
  await sql.query("INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at) VALUES ($1, 'alice', 'a', '', 'EUR', 0, now())", [uuidv7(Date.now())])
  await sql.query("INSERT INTO outbox (order_id, version, type) SELECT id, 1, 'placed' FROM orders")
  await sql.query('COMMIT')
  t.same((await begun).rows, [{ epoch: 1 }])
  await place(store, 1)
  t.same((await sql.query('SELECT DISTINCT tx >> 48 AS epoch FROM outbox')).rows, [{ epoch: '1' }])
})

test('an event gets a position in the current epoch, whether a transition or plain SQL inserts it', async t => {
  const { store, sql } = await openStore(t)
  await stock(sql)
  const [id = ''] = await place(store, 1)
  await store.transition('pay', id, null, null)
  await sql.query("INSERT INTO outbox (order_id, version, type) VALUES ($1, 3, 'shipped')", [id])
  t.same((await sql.query('SELECT tx >> 48 AS epoch FROM outbox')).rows, Array(3).fill({ epoch: '1' }))
})

test('a copy of the database on the same server is another history, and so are tables that are restored without the epochs', async t => {
  const { url, store, sql, prisma } = await openStore(t)
  await stock(sql)
  const feed = follow(t, store)
  await feed.subscribe('alice')
  await place(store, 1)
  await feed.has(1)
  const kept = feed.messages[0]?.cursor
  await feed.close()
  await prisma.$disconnect()
  await sql.end()

  const copy = await copyOf(t, url)
  const { store: original } = connectStore(t, url)
  const lost = follow(t, original)
  await lost.subscribe('alice')
  await place(original, 1)
  await lost.has(1)
  const cursor = lost.messages[0]?.cursor

  const { store: restored } = connectStore(t, copy.url)
  const [id] = await place(restored, 1)
  for (const [since, what, expected] of [[kept, 'complete', [id]], [cursor, 'a gap first', ['another-history', id]]] as const) {
    const again = follow(t, restored)
    await again.subscribe('alice', since)
    await again.has(expected.length)
    t.same(again.messages.map(idOf), expected, what)
    await again.close()
  }

  await copy.sql.query('DELETE FROM epochs')
  const [next] = await place(restored, 1)
  t.same((await copy.sql.query('SELECT tx >> 48 AS epoch FROM outbox WHERE order_id = $1', [next])).rows, [{ epoch: '3' }], 'the new epoch is above every stored one')
})

test('the migration gives an epoch of its own to a dump of the previous version that is restored where transaction ids begin again', async t => {
  const { url } = await createTestDatabase(t, { empty: true })
  const before = mkdtempSync(join(tmpdir(), 'last-orders-epochs-'))
  t.teardown(() => rmSync(before, { recursive: true }))
  const names = readMigrations().map(({ name }) => name).filter(name => name < '20261127000200')
  for (const name of names) cpSync(join(import.meta.dirname, '../../prisma/migrations', name), join(before, name), { recursive: true })
  await migrate({ url, directory: before })
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  const writer = `writer_${process.pid}`
  await sql.query(`CREATE ROLE ${writer}; GRANT INSERT ON outbox TO ${writer}`)
  t.teardown(async () => { await sql.query(`DROP OWNED BY ${writer}; DROP ROLE ${writer}`) })
  await stock(sql)
  const old = uuidv7(Date.now())
  await sql.query("INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at) VALUES ($1, 'alice', 'old', '', 'EUR', 520, now())", [old])
  await sql.query("INSERT INTO outbox (order_id, version, type, tx, available_at) VALUES ($1, 1, 'placed', 4000000000, NULL)", [old])

  await migrate({ url })
  t.same((await sql.query(`SELECT has_table_privilege('${writer}', 'epochs', 'SELECT, INSERT') AND has_table_privilege('${writer}', 'epochs', 'UPDATE') AS may`)).rows, [{ may: true }], 'a role that may write events may write epochs')
  const { store } = connectStore(t, url)
  const feed = follow(t, store)
  const resumed = follow(t, store)
  await feed.subscribe('alice')
  await resumed.subscribe('alice', { tx: 4_000_000_000n, orderId: old, version: 1, began: 0 })
  const [id] = await place(store, 1)
  await feed.has(1)
  await resumed.has(2)
  t.same(feed.messages.map(idOf), [id], 'no old event is sent as live')
  t.same(resumed.messages.map(idOf), ['another-history', id])
})

test('a feed on a read-only database reads on from its last position', async t => {
  const { url, store, sql } = await openStore(t)
  await stock(sql)
  const feed = follow(t, store)
  await feed.subscribe('alice')
  const [first] = await place(store, 1)
  await feed.has(1)
  const readOnly = connectStore(t, url, { options: '-c default_transaction_read_only=on' }).store
  const [second] = await place(store, 1)
  await feed.has(2)
  const [cursor] = feed.messages.map(({ cursor }) => cursor)
  t.same((await readOnly.feed(['alice'], cursor ?? await readOnly.feedHorizon(), 10)).events.map(({ event }) => event.orderId), [second])
  t.same(feed.messages.map(idOf), [first, second])
})

function follow (t: Test, store: OrderStore) {
  const messages: FeedMessage[] = []
  let listener = Promise.withResolvers<void>()
  const feed = new OrderFeed({ store, pollMs: 20, onError: error => t.error(error) })
  t.teardown(() => feed.close())
  return {
    messages,
    subscribe: async (customer: string, since?: FeedMessage['cursor']) => await feed.subscribe(customer, since, {
      push: message => {
        messages.push(message)
        listener.resolve()
        listener = Promise.withResolvers()
      },
      drained: async () => {},
      failed: () => t.fail('the feed gave up')
    }),
    async has (count: number): Promise<void> {
      while (messages.length < count) await listener.promise
    },
    close: async () => await feed.close()
  }
}

/** The order's id, or the reason of a gap. */
function idOf (message: FeedMessage): string {
  return 'gap' in message ? message.gap.reason : 'event' in message ? message.event.orderId : 'position'
}

async function stock (sql: pg.Client): Promise<void> {
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
}

async function place (store: OrderStore, count: number): Promise<string[]> {
  const placements = await store.place(Array.from({ length: count }, () => ({
    id: uuidv7(Date.now()),
    customer: 'alice',
    idempotencyKey: randomUUID(),
    fingerprint: '00',
    currency: 'EUR',
    items: [{ sku: 'ale-pint', quantity: 1 }],
    reference: null,
    createdAt: new Date()
  })), 30_000)
  return placements.map(placement => placement.outcome === 'created' ? placement.order.id : placement.outcome)
}

async function copyOf (t: Test, url: string): Promise<{ url: string, sql: pg.Client }> {
  const { url: copy } = await createTestDatabase(t, { empty: true })
  const nameOf = (url: string): string => new URL(url).pathname.slice(1)
  const server = new pg.Client({ connectionString: Object.assign(new URL(url), { pathname: '/postgres' }).href })
  await server.connect()
  await server.query(`DROP DATABASE ${nameOf(copy)}`)
  await server.query(`CREATE DATABASE ${nameOf(copy)} TEMPLATE ${nameOf(url)}`)
  await server.end()
  const sql = new pg.Client({ connectionString: copy })
  await sql.connect()
  t.teardown(() => sql.end())
  return { url: copy, sql }
}
