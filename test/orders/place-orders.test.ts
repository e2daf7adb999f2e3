import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import t from 'tap'
import { openStore } from '../store.ts'

t.test('events are marked without reading all of them', async t => {
  const { sql } = await openStore(t)
  const { rows: [row] } = await sql.query<{ placed: { ids: string[] } }>('SELECT place_orders($1::json, 0) AS placed', [JSON.stringify(Array.from({ length: 1_000 }, () => ({
    id: randomUUID(), customer: 'alice', key: randomUUID(), fingerprint: 'aa', currency: 'EUR', reference: null, createdAt: new Date(), items: []
  })))])
  const ids = row?.placed.ids.slice(0, 500) ?? []
  const before = await readOf(sql, 'outbox')
  await sql.query('SELECT FROM mark_published($1::uuid[], $2::integer[])', [ids, ids.map(() => 1)])
  t.equal(await readOf(sql, 'outbox'), before)
  t.equal((await sql.query('SELECT FROM outbox WHERE published_at IS NOT NULL')).rowCount, 500)
})

/** Rows of the table that scans of all of it have read. */
async function readOf (sql: pg.Client, table: string): Promise<number> {
  await sql.query('SELECT pg_stat_force_next_flush()')
  const { rows: [row] } = await sql.query<{ read: number }>('SELECT seq_tup_read::integer AS read FROM pg_stat_user_tables WHERE relname = $1', [table])
  return row?.read ?? NaN
}

t.test('a batch reads of the catalogue and of the stored orders no more than it needs', async t => {
  const { sql } = await openStore(t)
  // As they are in a new database: the planner knows nothing of their size, and the function keeps its plans.
  const batch = (): string => JSON.stringify(Array.from({ length: 50 }, () => ({
    id: randomUUID(),
    customer: 'alice',
    key: randomUUID(),
    fingerprint: 'aa',
    currency: 'EUR',
    reference: null,
    createdAt: new Date(),
    items: [{ sku: `product-${Math.floor(Math.random() * 20_000)}`, quantity: 1 }]
  })))
  await sql.query("INSERT INTO products SELECT 'product-' || n, 'p', 1, 'EUR', 1000000 FROM generate_series(0, 19999) n")
  for (const round of [1, 2]) {
    // The second round has plans that were made when there were no orders, and statistics that are new.
    for (let n = 0; n < 20; n++) await sql.query({ name: 'place', text: 'SELECT place_orders($1::json, 0)', values: [batch()] })
    await sql.query('SELECT pg_stat_force_next_flush()')
    const { rows } = await sql.query("SELECT relname, seq_tup_read::integer AS read FROM pg_stat_user_tables WHERE relname IN ('products', 'orders', 'order_items') ORDER BY relname")
    t.same(rows, [{ relname: 'order_items', read: 0 }, { relname: 'orders', read: 0 }, { relname: 'products', read: 0 }], `round ${round}`)
    await sql.query('ANALYZE')
  }
})
