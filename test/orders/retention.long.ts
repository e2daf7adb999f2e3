import { existsSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { test, type Test } from 'tap'
import { request } from 'undici'
import { OrderFeed, type FeedMessage, type FeedReader } from '../../orders/feed.ts'
import { Retention } from '../../orders/retention.ts'
import { findBinaries, type Binaries } from '../../postgres/binaries.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import { startApp } from '../app.ts'
import { openStore } from '../store.ts'
import { idOf, pending } from './pending.ts'

const dayMs = 86_400_000
const debian = '/usr/lib/postgresql/15/bin'

// A server for this file alone, because a transaction of any other test on it would hold back the horizon below which events are deleted.
if (process.env.TEST_DATABASE_URL === undefined) await useAsTestServer(t, findBinaries)

for (const version of ['18', '15']) {
  test(`on PostgreSQL ${version}, retention deletes only what is over`, { skip: version === '15' && !existsSync(debian) && 'it is not installed' }, async t => {
    if (version === '15') await useAsTestServer(t, () => ({ initdb: join(debian, 'initdb'), postgres: join(debian, 'postgres') }))
    const database = await openStore(t)
    await database.products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })

    await t.test('the events of an order are deleted together once the last is old enough, and its key is kept', async t => {
      const { store, sql, prune } = await emptied(t, database)
      for (const n of [1, 2]) await place(store, n)
      await store.transition('pay', idOf(1), null, null)
      await publishAll(sql)
      await age(sql, 31)
      await store.transition('pay', idOf(2), null, null)
      await publishAll(sql)
      await prune(30 * dayMs)
      t.same(await kept(sql), ['2 1 placed', '2 2 paid'], 'a young event keeps the history of its order whole')
      t.same(await store.history(idOf(1), null), { events: [], complete: false })
      t.match(await store.history(idOf(2), null), { events: [{ version: 1 }, { version: 2 }], complete: true })

      t.match(await store.place([pending(1)]), [{ outcome: 'replayed', order: { id: idOf(1) } }])
      await store.transition('ship', idOf(1), null, null)
      t.match(await store.history(idOf(1), null), { events: [{ version: 3, type: 'shipped' }], complete: false }, 'a history without its beginning says so')
    })

    await t.test('an event that is unpublished, dead, behind a dead one or leased is kept, and is deleted once that is over', async t => {
      const { store, sql, prune } = await emptied(t, database)
      for (const n of [1, 2, 3, 4]) await place(store, n)
      await store.transition('pay', idOf(3), null, null)
      await publishAll(sql)
      await sql.query(`UPDATE outbox SET available_at = now() WHERE order_id = '${idOf(1)}'`)
      await sql.query(`UPDATE outbox SET available_at = now(), dead_at = now() WHERE order_id = '${idOf(2)}' OR order_id = '${idOf(3)}' AND version = 1`)
      await sql.query(`UPDATE outbox SET available_at = now() WHERE order_id = '${idOf(3)}' AND version = 2`)
      await place(store, 5, 60_000)
      await age(sql, 31)
      await prune(30 * dayMs)
      t.same(await kept(sql), ['1 1 placed', '2 1 placed', '3 1 placed', '3 2 paid', '5 1 placed'])

      await sql.query('UPDATE outbox SET available_at = NULL, dead_at = NULL')
      await sql.query('DELETE FROM outbox_leases')
      await prune(30 * dayMs)
      t.same(await kept(sql), [])
    })

    await t.test('an event above the horizon of the feed is kept', async t => {
      const { store, sql, prune, connect } = await emptied(t, database)
      const earlier = await connect()
      await earlier.query('BEGIN; SELECT pg_current_xact_id()')
      await place(store, 1)
      await publishAll(sql)
      await age(sql, 31)
      await sql.query(pruneAtOnce, [30 * dayMs, 1_000])
      t.same(await kept(sql), ['1 1 placed'], 'an earlier transaction may still write, and streams have not passed it')
      await earlier.query('COMMIT')
      await prune(30 * dayMs)
      t.same(await kept(sql), [])
    })

    await t.test('events that are kept do not hold up those behind them', async t => {
      const { sql, prune } = await emptied(t, database)
      await insertEvents(sql, 1, 10, 31)
      await sql.query('UPDATE outbox SET dead_at = now(), available_at = now()')
      await insertEvents(sql, 11, 30, 31)
      await insertEvents(sql, 31, 35, 1)
      await prune(30 * dayMs, 3)
      t.same((await kept(sql)).map(event => Number(event.split(' ')[0])), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 31, 32, 33, 34, 35])
    })

    await t.test('a retention round reads no more than its batch, by index, also with a plan that was made for an empty table', async t => {
      const { sql } = await emptied(t, database)
      for (let n = 0; n < 10; n++) await sql.query(pruneAtOnce, [30 * dayMs, 100])
      await insertEvents(sql, 1, 50_000, 31)
      await sql.query('VACUUM ANALYZE outbox')
      await passed(sql)
      await sql.query('BEGIN')
      const before = await readOf(sql)
      const { rows: [round] } = await sql.query(pruneAtOnce, [30 * dayMs, 100])
      const after = await readOf(sql)
      await sql.query('COMMIT')
      t.equal(round.pruned, 100)
      t.equal(after.scans, before.scans, 'no full scan')
      const fetched = after.fetched - before.fetched
      t.ok(fetched <= 500, `${fetched} rows were read for 100 events`)
    })

    await t.test('instances share the retention rounds: one prunes at a time, and the other does not wait', async t => {
      const { sql, prisma, connect } = await emptied(t, database)
      const busy = await connect()
      await insertEvents(sql, 1, 10, 31)
      await passed(sql)
      await busy.query('BEGIN')
      await busy.query(pruneAtOnce, [30 * dayMs, 5])
      t.match((await sql.query(pruneAtOnce, [30 * dayMs, 5])).rows, [{ pruned: 0 }])
      await busy.query('COMMIT')

      await insertEvents(sql, 11, 1_000, 31)
      const counts: number[] = []
      const instances = [prisma, prisma].map(prisma => new Retention({
        prisma,
        outboxMs: 30 * dayMs,
        stopsMs: 0,
        batchMax: 200,
        log: { warn: (details, message) => t.fail(message, details), debug: details => counts.push((details as { pruned: number }).pruned) }
      }))
      const running = instances.map(instance => instance.run())
      while ((await kept(sql)).length > 0);
      for (const instance of instances) instance.stop()
      await Promise.all(running)
      t.equal(counts.reduce((sum, count) => sum + count, 0), 995, 'each event was deleted once')
    })

    await t.test('a stream that resumes from before the pruned events gets a gap, and then what is kept', async t => {
      const { store, sql, prune } = await emptied(t, database)
      await place(store, 1)
      const start = { tx: 0n, orderId: '00000000-0000-0000-0000-000000000000', version: 0, began: 0 }
      const [first] = await listen(t, store, start, 1)
      t.match(first, { event: { type: 'placed' } }, 'before the pruning there is no gap')
      for (const n of [2, 3]) await place(store, n)
      await publishAll(sql)
      await sql.query(`UPDATE outbox SET created_at = now() - interval '31 days' WHERE order_id <> '${idOf(3)}'`)
      await prune(30 * dayMs)

      const resumed = await listen(t, store, first?.cursor, 3)
      t.match(resumed, [{ gap: { reason: 'pruned', detail: /GET \/orders/ }, cursor: first?.cursor }, { event: { orderId: idOf(3) } }, { cursor: {} }])
      t.notOk('event' in (resumed[2] ?? {}), 'the last message is a position')
      await place(store, 4)
      t.match(await listen(t, store, resumed[2]?.cursor, 1), [{ event: { orderId: idOf(4) } }], 'from that position on there is no second gap')
    })

    await t.test('a stream gets a gap if its instance could not read events before they were pruned', async t => {
      const { store, sql } = await emptied(t, database)
      const feed = new OrderFeed({ store, pollMs: 10, onError: error => { throw error } })
      t.teardown(() => feed.close())
      const message = Promise.withResolvers<FeedMessage>()
      await feed.subscribe('alice', undefined, readerOf(message.resolve))
      // As after the pruning of events that came after the last read.
      await sql.query('UPDATE outbox_retention SET pruned_below = event_position() + 1')
      t.match(await message.promise, { gap: { reason: 'pruned' } })
    })
  })
}

test('the row of a stop is deleted once the stop has been over for long enough', async t => {
  const { sql, prisma } = await openStore(t)
  await sql.query(`INSERT INTO stops (id, instance, pid, started_at, finished_at) VALUES
    (gen_random_uuid(), 'old', 1, now() - interval '99 days', now() - interval '91 days'),
    (gen_random_uuid(), 'killed', 1, now() - interval '99 days', NULL),
    (gen_random_uuid(), 'lived long', 1, now() - interval '99 days', now() - interval '1 day'),
    (gen_random_uuid(), 'young', 1, now() - interval '9 days', now() - interval '1 day')`)
  const retention = new Retention({ prisma, outboxMs: 0, stopsMs: 90 * dayMs, log: { warn: (details, message) => t.fail(message, details), debug () {} } })
  const running = retention.run()
  while ((await sql.query('SELECT FROM stops')).rowCount !== 2);
  retention.stop()
  await running
  t.same((await sql.query('SELECT instance FROM stops ORDER BY 1')).rows.map(({ instance }) => instance), ['lived long', 'young'])
})

test('a process whose row in stops was deleted ends clean, and writes the row again', async t => {
  const { app, sql } = await startApp(t)
  const { rows: [row] } = await sql.query<{ started_at: Date }>('DELETE FROM stops RETURNING started_at')
  const report = await app.drain.start('test')
  t.match(report, { exitCode: 0 })
  t.match((await sql.query('SELECT reason, exit_code, started_at FROM stops')).rows, [{ reason: 'test', exit_code: 0, started_at: row?.started_at }])
})

test('a stop during a retention sweep ends clean, and another instance finishes the sweep', async t => {
  const { url, sql } = await openStore(t)
  const rows = 20_000
  await insertEvents(sql, 1, rows, 31)
  await passed(sql)
  const count = async (): Promise<number> => Number((await sql.query<{ count: string }>('SELECT count(*) FROM outbox')).rows[0]?.count)
  const first = await startApp(t, { databaseUrl: url, settings: { OUTBOX_RETENTION_MS: String(30 * dayMs) } })
  while (await count() === rows);
  t.match(await first.app.drain.start('test'), { exitCode: 0 })
  t.ok(await count() > 0, 'the stop came during the sweep')

  await startApp(t, { databaseUrl: url, settings: { OUTBOX_RETENTION_MS: String(30 * dayMs) } })
  while (await count() > 0);
})

test('after pruning, a history says that it is incomplete, and a stream that it has a gap', async t => {
  const { ask, token, sql, url } = await startApp(t, { settings: { OUTBOX_RETENTION_MS: '200' } })
  const alice = token('alice')
  const { body: { id } } = await ask<{ id: string }>('POST', '/orders', { token: alice, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': 'one' } })
  while ((await sql.query('SELECT FROM outbox')).rowCount !== 0);
  t.same((await ask('GET', `/orders/${id}/events`, { token: alice })).body, { events: [], complete: false })

  const { body } = await request(`${url}/orders/stream`, { headers: { authorization: `Bearer ${alice}`, 'last-event-id': `1.${id}.1` } })
  let text = ''
  for await (const chunk of body) {
    text += String(chunk)
    if (text.split('\n\n').length > 3) break
  }
  const blocks = text.split('\n\n')
  t.match(blocks[1], new RegExp(`^id: 1\\.${id}\\.1\\.\\w+\nevent: gap\ndata: {"reason":"pruned","detail":".*GET /orders.*"}$`))
  t.match(blocks[2], /^id: \d+\.00000000-0000-0000-0000-000000000000\.0\.\w+$/, 'the id moves on')
})

type Database = Awaited<ReturnType<typeof openStore>>

const pruneAtOnce = 'SELECT * FROM prune_outbox($1::bigint, $2::integer, 0)'

async function emptied (t: Test, { store, sql, prisma, url }: Database) {
  await sql.query("TRUNCATE orders, order_items, outbox, outbox_leases; UPDATE outbox_retention SET pruned_below = 0, swept_order_id = '00000000-0000-0000-0000-000000000000', due_at = now() - interval '1 s'")
  return {
    store,
    sql,
    prisma,
    /** One whole sweep. */
    async prune (retentionMs: number, batchMax = 1_000): Promise<void> {
      await passed(sql)
      do {
        await sql.query("UPDATE outbox_retention SET due_at = now() - interval '1 s'")
        await sql.query(pruneAtOnce, [retentionMs, batchMax])
      } while ((await sql.query('SELECT FROM outbox_retention WHERE swept_order_id <> $1', ['00000000-0000-0000-0000-000000000000'])).rowCount !== 0)
    },
    async connect (): Promise<pg.Client> {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      t.teardown(() => client.end())
      return client
    }
  }
}

/** Creates the databases of this test on a Postgres with these binaries. */
async function useAsTestServer (t: Pick<Test, 'testdir' | 'teardown'>, binaries: () => Binaries): Promise<void> {
  const cluster = await Cluster.create({ postgres: { binaries, settings: { fsync: 'off' } }, log: join(t.testdir(), 'postgres.log') })
  const { TEST_DATABASE_URL: before } = process.env
  process.env.TEST_DATABASE_URL = cluster.url
  t.teardown(async () => {
    if (before === undefined) delete process.env.TEST_DATABASE_URL
    else process.env.TEST_DATABASE_URL = before
    await cluster.close()
  })
}

async function place (store: Database['store'], n: number, leaseMs?: number): Promise<void> {
  await store.place([pending(n)], leaseMs)
}

async function publishAll (sql: pg.Client): Promise<void> {
  await sql.query('UPDATE outbox SET available_at = NULL')
}

async function age (sql: pg.Client, days: number): Promise<void> {
  await sql.query(`UPDATE outbox SET created_at = now() - interval '${days} days'`)
}

/** Inserts published events of orders that do not exist. */
async function insertEvents (sql: pg.Client, from: number, to: number, days: number): Promise<void> {
  await sql.query(`INSERT INTO outbox (order_id, version, type, created_at, available_at)
    SELECT ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1, 'placed', now() - interval '${days} days', NULL FROM generate_series(${from}, ${to}) AS n`)
}

/** Waits until the horizon has passed all events: a transaction of another database, or a VACUUM, may hold it back. */
async function passed (sql: pg.Client): Promise<void> {
  while ((await sql.query('SELECT FROM outbox WHERE tx >= (current_epoch()::bigint << 48) + (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint LIMIT 1')).rowCount !== 0);
}

/** What this session has read of the outbox, in this transaction and perhaps in earlier ones. */
async function readOf (sql: pg.Client): Promise<{ scans: number, fetched: number }> {
  const { rows: [read] } = await sql.query<{ scans: number, fetched: number }>("SELECT seq_scan::integer AS scans, idx_tup_fetch::integer AS fetched FROM pg_stat_xact_user_tables WHERE relname = 'outbox'")
  if (read === undefined) throw new Error('Postgres keeps no statistics of the outbox.')
  return read
}

async function kept (sql: pg.Client): Promise<string[]> {
  const { rows } = await sql.query<{ id: string, version: number, type: string }>('SELECT order_id AS id, version, type FROM outbox ORDER BY 1, 2')
  return rows.map(({ id, version, type }) => `${Number(id.slice(-12))} ${version} ${type}`)
}

/** The next `count` messages of alice's stream. */
async function listen (t: Test, store: Database['store'], since: FeedMessage['cursor'] | undefined, count: number): Promise<FeedMessage[]> {
  const feed = new OrderFeed({ store, pollMs: 10, onError: error => { throw error } })
  const messages: FeedMessage[] = []
  const enough = Promise.withResolvers<void>()
  await feed.subscribe('alice', since, readerOf(message => {
    messages.push(message)
    if (messages.length === count) enough.resolve()
  }))
  await enough.promise
  await feed.close()
  return messages
}

function readerOf (push: FeedReader['push']): FeedReader {
  return { push, drained: async () => {}, failed: () => { throw new Error('The feed could not be read.') } }
}
