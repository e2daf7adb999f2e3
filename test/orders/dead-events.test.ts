import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { test, type Test } from 'tap'
import { DeadEvents } from '../../orders/dead-events.ts'
import type { OrderStore } from '../../orders/store.ts'
import { connectStore, openStore } from '../store.ts'
import { idOf, pending } from './pending.ts'

const each = 2_000

async function open (t: Test) {
  const opened = await openStore(t)
  await opened.products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })
  return { ...opened, deadEvents: new DeadEvents(opened.prisma) }
}

async function place (store: OrderStore, n: number, leaseMs?: number): Promise<bigint> {
  const [placed] = await store.place([pending(n)], leaseMs)
  if (placed?.outcome !== 'created') throw new Error(`Order ${n} was not placed: ${placed?.outcome}`)
  return placed.tx
}

/** Inserts orders from number `from` on, with three events each; `columns` are those of the first event. */
async function fill (sql: pg.Client, from: number, columns: Record<string, string>): Promise<void> {
  const id = "('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid"
  const orders = `generate_series(${from}, ${from + each - 1}) n`
  await sql.query(`INSERT INTO orders (id, customer, idempotency_key, fingerprint, status, currency, total, version, created_at)
    SELECT ${id}, 'alice', 'key-' || n, '\\xaa', 'shipped', 'EUR', 520, 3, now() FROM ${orders}`)
  await sql.query(`INSERT INTO outbox (order_id, version, type, ${Object.keys(columns).join(', ')}) SELECT ${id}, 1, 'placed', ${Object.values(columns).join(', ')} FROM ${orders}`)
  await sql.query(`INSERT INTO outbox (order_id, version, type) SELECT ${id}, version, type::order_status FROM ${orders}, (VALUES (2, 'paid'), (3, 'shipped')) later(version, type)`)
}

/** How many rows and index entries of the outbox a claim reads. */
async function visitsOfAClaim (t: Test, url: string, sql: pg.Client): Promise<{ claimed: number, visits: number }> {
  // Removes old row versions, because only the first read would visit them.
  await sql.query('VACUUM outbox')
  const before = await visits(sql)
  const name = 'the claim'
  const { store, prisma } = connectStore(t, url, { max: 1, application_name: name })
  const { length: claimed } = await store.claimEvents(500, 30_000)
  // A session reports its statistics when it ends, at the latest.
  await prisma.$disconnect()
  while ((await sql.query('SELECT FROM pg_stat_activity WHERE application_name = $1', [name])).rowCount !== 0) await delay(5)
  return { claimed, visits: await visits(sql) - before }
}

async function visits (sql: pg.Client): Promise<number> {
  // This session's own statistics could come up to a second late, in the next count.
  await sql.query('SELECT pg_stat_force_next_flush()')
  await sql.query('SELECT pg_stat_clear_snapshot()')
  const { rows } = await sql.query<{ visits: number }>("SELECT (seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'outbox'))::float8 AS visits FROM pg_stat_user_tables WHERE relname = 'outbox'")
  return rows[0]?.visits ?? 0
}

async function availabilities (sql: pg.Client, n: number): Promise<string[]> {
  const { rows } = await sql.query<{ at: string }>("SELECT CASE WHEN available_at IS NULL THEN 'published' WHEN available_at = 'infinity' THEN 'held' ELSE 'available' END AS at FROM outbox WHERE order_id = $1 ORDER BY version", [idOf(n)])
  return rows.map(({ at }) => at)
}

test('a claim visits no event that is dead, in backoff, leased, or behind such an event', async t => {
  const { url, sql, store } = await open(t)
  await fill(sql, 10_000, { dead_at: 'now()', attempts: '12' })
  await fill(sql, 20_000, { available_at: "now() + interval '5 min'", attempts: '3' })
  await fill(sql, 30_000, { available_at: "now() + interval '30 s'", attempts: '1' })
  await sql.query("INSERT INTO outbox_leases (tx, expires_at) VALUES (1, now() + interval '30 s')")
  await fill(sql, 40_000, { available_at: 'NULL', attempts: '1', tx: '1' })
  // Events that die later, and events that are written behind a dead one.
  await fill(sql, 50_000, { attempts: '0' })
  await sql.query(`UPDATE outbox SET dead_at = now() WHERE order_id >= '${idOf(50_000)}' AND version = 1`)
  await sql.query('INSERT INTO outbox (order_id, version, type) SELECT order_id, 4, \'delivered\' FROM outbox WHERE dead_at IS NOT NULL')
  await place(store, 1)

  const { claimed, visits } = await visitsOfAClaim(t, url, sql)
  t.equal(claimed, 1)
  t.ok(visits < 20, `${visits} visits, among ${14 * each} events that cannot be published`)
})

test('a claim holds the followers that were written before the migration, and each is released when its turn comes', async t => {
  const { url, sql, store } = await open(t)
  await sql.query('ALTER TABLE outbox DISABLE TRIGGER outbox_inserted')
  await fill(sql, 10_000, { dead_at: 'now()', attempts: '12' })
  await sql.query("INSERT INTO outbox_leases (tx, expires_at) VALUES (1, now() + interval '30 s')")
  await fill(sql, 20_000, { available_at: 'NULL', attempts: '1', tx: '1' })
  await sql.query('ALTER TABLE outbox ENABLE TRIGGER outbox_inserted')
  await place(store, 1)

  while ((await visitsOfAClaim(t, url, sql)).claimed === 0);
  await place(store, 2)
  while ((await sql.query("SELECT FROM outbox WHERE version > 1 AND available_at < 'infinity'")).rowCount !== 0) await store.claimEvents(500, 30_000)
  const { visits } = await visitsOfAClaim(t, url, sql)
  t.ok(visits < 20, `${visits} visits`)

  await sql.query('SELECT discard_events(ARRAY[$1]::uuid[], ARRAY[1])', [idOf(10_000)])
  t.same(await availabilities(sql, 10_000), ['published', 'available', 'held'])
  await sql.query('DELETE FROM outbox_leases')
  t.same(await availabilities(sql, 20_000), ['published', 'available', 'held'])
})

// A transition writes a follower while something ends the wait for the event before it. Whichever comes first, no event stays held.
const ends: Array<[name: string, leaseMs: number | undefined, sql: string]> = [
  ['the marking of a claimed event', undefined, `SELECT mark_published(ARRAY['${idOf(1)}']::uuid[], ARRAY[1])`],
  ['the end of a lease', 30_000, 'DELETE FROM outbox_leases'],
  ['a discard', undefined, `SELECT discard_events(ARRAY['${idOf(1)}']::uuid[], ARRAY[1])`]
]
const pay = `SELECT transition_order('${idOf(1)}', NULL, '{placed}', 'paid', NULL)`

for (const [name, leaseMs, end] of ends) {
  test(`a follower that is written during ${name} can be claimed, whichever began first`, async t => {
    for (const first of ['the transition', 'the end']) {
      const { url, sql, store } = await open(t)
      await place(store, 1, leaseMs)
      if (end.includes('discard')) await sql.query('UPDATE outbox SET dead_at = now()')
      const other = new pg.Client({ connectionString: url })
      await other.connect()
      t.teardown(async () => { await other.end() })

      await sql.query('BEGIN')
      await sql.query(first === 'the transition' ? pay : end)
      const { rows: [session] } = await other.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      const second = other.query(first === 'the transition' ? end : pay)
      // The end waits for the transition; the transition waits for nothing.
      if (first === 'the transition') while ((await sql.query("SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'", [session?.pid])).rowCount === 0);
      else await second
      await sql.query('COMMIT')
      await second
      for (;;) {
        const [event] = await store.claimEvents(10, 30_000)
        if (event === undefined) continue
        t.match(event, { version: 2, type: 'paid' }, `${first} first`)
        break
      }
    }
  })
}

test('a dead event can be listed, and revived or discarded once; then the next event of its order can be claimed', async t => {
  const { sql, store, deadEvents } = await open(t)
  for (const n of [1, 2, 3]) {
    await place(store, n)
    for (const transition of ['pay', 'ship'] as const) await store.transition(transition, idOf(n), null, null)
  }
  await sql.query("UPDATE outbox SET dead_at = now(), attempts = 12, last_error = 'too large: 2 MB' WHERE version = 1")
  const all = await deadEvents.list({ limit: 10 })
  t.match(all, [1, 2, 3].map(n => ({ orderId: idOf(n), version: 1, type: 'placed', customer: 'alice', attempts: 12, reason: 'too large: 2 MB', waiting: 2 })))
  const [first] = await deadEvents.list({ limit: 1 })
  t.same((await deadEvents.list({ after: first, limit: 1 })).map(({ orderId }) => orderId), [idOf(2)], 'the second page')
  t.same(await deadEvents.list({ type: 'paid', limit: 10 }), [])
  t.equal((await deadEvents.list({ reason: 'too large', limit: 10 })).length, 3)
  t.same(await store.claimEvents(10, 30_000), [])

  const key = { orderId: idOf(1), version: 1 }
  t.same(await deadEvents.revive([key]), [key])
  t.same(await deadEvents.revive([key]), [], 'it is revived only once')
  const [event] = await store.claimEvents(10, 30_000)
  t.match(event, { ...key, attempts: 1, hasFailed: true })
  if (event !== undefined) await store.settleEvents([event], [])
  t.match(await store.claimEvents(10, 30_000), [{ orderId: idOf(1), version: 2 }])

  t.same(await deadEvents.discard([{ orderId: idOf(2), version: 1 }]), [{ orderId: idOf(2), version: 1 }])
  t.same(await deadEvents.discard([{ orderId: idOf(2), version: 1 }]), [])
  t.equal(await deadEvents.stateOf({ orderId: idOf(2), version: 1 }), 'discarded')
  t.match(await store.claimEvents(10, 30_000), [{ orderId: idOf(2), version: 2 }])

  t.equal(await deadEvents.reviveSome({ reason: 'something else' }, new Date(Date.now() + 60_000), 10), 0)
  t.equal(await deadEvents.reviveSome({ type: 'placed', reason: 'too large' }, new Date(Date.now() + 60_000), 10), 1)
  t.match(await store.claimEvents(10, 30_000), [{ orderId: idOf(3), version: 1 }])
})
