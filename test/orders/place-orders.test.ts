import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { PrismaClient } from '#prisma'
import type { PendingOrder } from '../../orders/intake.ts'
import type { Placement } from '../../orders/order.ts'
import { connectStore, openStore } from '../store.ts'

function order (items: PendingOrder['items'], overrides: Partial<PendingOrder> = {}): PendingOrder {
  return { id: randomUUID(), customer: 'alice', idempotencyKey: randomUUID(), currency: 'EUR', items, reference: null, createdAt: new Date(), fingerprint: 'aa', ...overrides }
}

/** The prices of each order's lines, in their order. */
function pricesOf (placements: Placement[]): string[][] {
  return placements.map(placement => [placement.outcome, ...'order' in placement ? placement.order.items.map(({ sku, unitPrice }) => `${sku} ${unitPrice}`) : []])
}

t.test('each order of a mixed batch gets the prices of its own lines, and a replay gets those of the first time', async t => {
  const { store, products } = await openStore(t)
  const price = (sku: string, unitPrice: bigint) => products.put({ sku, unitPrice })
  for (const sku of ['ale', 'pie', 'tea']) await products.put({ sku, name: sku, unitPrice: 100n, currency: 'EUR', stock: 100n })
  const [ale, pie, tea] = [{ sku: 'ale', quantity: 1 }, { sku: 'pie', quantity: 1 }, { sku: 'tea', quantity: 1 }]
  const first = order([tea, ale])
  t.same(pricesOf(await store.place([first])), [['created', 'tea 100', 'ale 100']])

  await price('ale', 200n)
  await price('pie', 300n)
  const again = { ...first, id: randomUUID() }
  const batch = [order([pie]), order([{ sku: 'none', quantity: 1 }, ale]), again, order([ale, tea, pie]), { ...again, idempotencyKey: 'other', items: [] }]
  const placements = await store.place(batch)
  t.same(pricesOf(placements), [['created', 'pie 300'], ['unknown-product'], ['replayed', 'tea 100', 'ale 100'], ['created', 'ale 200', 'tea 100', 'pie 300'], ['created']])
  t.match(placements[2], { order: { id: first.id, total: 200n, createdAt: first.createdAt } })
})

t.test('a refused order leaves no row, at whatever step it is refused', async t => {
  const { store, sql, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'ale', unitPrice: 1n, currency: 'EUR', stock: 10n })
  await products.put({ sku: 'gold', name: 'gold', unitPrice: 9_007_199_254_740_991n, currency: 'EUR', stock: 10n })
  const batch = [{ sku: 'ale', quantity: 1 }, { sku: 'ale', quantity: 10 }, { sku: 'gold', quantity: 2 }, { sku: 'none', quantity: 1 }].map(item => order([item]))
  t.same((await store.place(batch, 30_000)).map(({ outcome }) => outcome), ['created', 'out-of-stock', 'total-too-large', 'unknown-product'])
  const stored = batch.slice(0, 1).map(({ id }) => ({ id }))
  t.same((await sql.query('SELECT id FROM orders')).rows, stored)
  for (const table of ['order_items', 'outbox']) t.same((await sql.query(`SELECT order_id AS id FROM ${table}`)).rows, stored, table)
})

t.test('a batch refuses exactly those orders whose price is not their expected total', async t => {
  const { store, sql, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'ale', unitPrice: 100n, currency: 'EUR', stock: 10n })
  const line = (quantity: number) => [{ sku: 'ale', quantity }]
  const batch = [order(line(1)), order(line(2), { expectedTotal: 199 }), order(line(3), { expectedTotal: 300 }), order(line(20), { expectedTotal: 1 }), order(line(7)), order([{ sku: 'none', quantity: 1 }], { expectedTotal: 0 })]
  t.match(await store.place(batch), [{ outcome: 'created' }, { outcome: 'price-changed', total: 200n }, { outcome: 'created' }, { outcome: 'price-changed', total: 2_000n }, { outcome: 'out-of-stock' }, { outcome: 'unknown-product' }])
  t.equal((await sql.query('SELECT FROM orders')).rowCount, 2)
  t.equal((await sql.query('SELECT FROM outbox')).rowCount, 2)
  t.match((await sql.query('SELECT stock FROM products')).rows, [{ stock: '6' }])
  await products.put({ sku: 'ale', unitPrice: 200n })
  t.match(await store.place(batch.slice(2, 3)), [{ outcome: 'replayed', order: { total: 300n } }], 'a replay returns what was placed')
})

t.test('events are settled without a full scan of the outbox', async t => {
  const { url, sql } = await openStore(t)
  const { store, prisma } = connectStore(t, url, { max: 1 })
  const orders = (many: number): PendingOrder[] => Array.from({ length: many }, () => order([]))
  // So many that the planner of every version prefers an index.
  await store.place(orders(5_000))
  const claimed = await store.claimEvents(500, 30_000)
  const [leased] = await store.place(orders(100), 30_000)
  await store.place(orders(100), 1)
  t.same(await store.outboxBacklog(), { pending: 5_200, dead: 0 })
  const before = await readOf(prisma, 'outbox')

  await store.settleEvents(claimed, [])
  await store.endExpiredLeases()
  if (leased?.outcome !== 'created') throw new Error('The order was not created')
  const event = { orderId: leased.order.id, version: 1, type: 'placed' as const, customer: 'alice', currency: 'EUR', total: 0n, at: new Date(), attempts: 1, hasFailed: false }
  await store.settleOwn([leased.tx], [{ event, error: 'not this one', retryInMs: 0, isCounted: true }])
  t.same(await readOf(prisma, 'outbox'), before)

  t.same(await store.outboxBacklog(), { pending: 4_601, dead: 0 })
  t.equal((await sql.query('SELECT FROM outbox_leases')).rowCount, 0)
})

/** How many rows full scans have read, by table. `prisma` has one connection, whose own reads are counted at once. */
async function readOf (prisma: PrismaClient, ...tables: string[]): Promise<unknown> {
  await prisma.$queryRaw`SELECT pg_stat_force_next_flush()::text`
  return await prisma.$queryRaw`SELECT relname, seq_tup_read::integer AS read FROM pg_stat_user_tables WHERE relname = ANY (${tables}) ORDER BY relname`
}

t.test('a batch scans neither the whole catalogue nor all stored orders', async t => {
  const { url, sql } = await openStore(t)
  // One connection, because it keeps the plans of the function. They are made as in a new database, where the planner knows no sizes.
  const { store, prisma } = connectStore(t, url, { max: 1 })
  await sql.query("INSERT INTO products SELECT 'product-' || n, 'p', 1, 'EUR', 1000000 FROM generate_series(0, 19999) n")
  for (const round of [1, 2]) {
    // The second round has plans that were made when there were no orders, and statistics that are new.
    for (let n = 0; n < 20; n++) {
      const batch = Array.from({ length: 50 }, () => order([{ sku: `product-${Math.floor(Math.random() * 20_000)}`, quantity: 1 }]))
      batch.push(order([{ sku: 'none', quantity: 1 }]), order([{ sku: 'product-1', quantity: 1_000_001 }]))
      // The second call is a replay.
      for (const outcome of ['created', 'replayed']) t.equal((await store.place(batch))[0]?.outcome, outcome)
    }
    const tables = ['order_items', 'orders', 'outbox', 'products']
    t.same(await readOf(prisma, ...tables), tables.map(relname => ({ relname, read: 0 })), `round ${round}`)
    await sql.query('ANALYZE')
  }
})
