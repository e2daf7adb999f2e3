import pg from 'pg'
import { test } from 'tap'
import { serviceWaitsForLock } from '../faults.ts'
import { openStore } from '../store.ts'
import { pending } from '../orders/pending.ts'

test('a cancellation and a batch of orders never deadlock, even when an epoch begins', async t => {
  const { store, sql, url } = await openStore(t)
  await sql.query("INSERT INTO products (sku, name, unit_price, currency, stock) VALUES ('ale', 'Ale', 520, 'EUR', 10)")
  const [placed] = await store.place([pending(1)])
  if (placed === undefined || !('order' in placed)) throw new Error('The order was not placed.')
  // As after a restart of the server: the next write begins an epoch.
  await sql.query("UPDATE epochs SET server_started_at = server_started_at - interval '1 day'")
  const other = new pg.Client({ connectionString: url })
  await other.connect()
  t.teardown(async () => { await other.end() })
  // These are the steps of place_orders: the epoch first, the stock later.
  await other.query('BEGIN')
  await other.query('SELECT event_position()')
  const cancelling = store.transition('cancel', placed.order.id, null, null)
  cancelling.catch(() => {})
  await serviceWaitsForLock(sql)
  await t.resolves(other.query('SELECT FROM products ORDER BY sku FOR NO KEY UPDATE').then(async () => await other.query('COMMIT')))
  await t.resolves(cancelling)
})
