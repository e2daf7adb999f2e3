import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import t from 'tap'
import { PrismaClient } from '#prisma'
import { firstUuidAt, uuidv7 } from '../../commit/uuidv7.ts'
import { OrderStore, type OrderSearch } from '../../orders/store.ts'
import { DatabaseFunctions } from '../../prisma/database-functions.ts'
import { UtcClient } from '../../prisma/utc-client.ts'
import { createTestDatabase } from '../postgres.ts'

interface Plan {
  'Node Type': string
  'Parent Relationship'?: string
  'Relation Name'?: string
  'Index Name'?: string
  'Actual Rows'?: number
  'Rows Removed by Filter'?: number
  'Shared Hit Blocks'?: number
  'Shared Read Blocks'?: number
  Plans?: Plan[]
}

const { url } = await createTestDatabase(t)
const prisma = new PrismaClient({ adapter: new PrismaPg(new pg.Pool({ Client: UtcClient, connectionString: url }), { disposeExternalPool: true }), log: [{ emit: 'event', level: 'query' }] })
const sql = new pg.Client({ connectionString: url })
await sql.connect()
t.teardown(async () => {
  await sql.end()
  await prisma.$disconnect()
})
const statements: Array<{ query: string, params: string }> = []
prisma.$on('query', event => { statements.push(event) })
const store = new OrderStore(prisma, new DatabaseFunctions(prisma))

/**
 * One order a second. Some values are frequent, but only among old orders, which the statistics of columns do not show. A planner
 * that hopes to meet such a value among the newest orders reads them all.
 */
const begin = Date.parse('2026-01-01T00:00:00Z')
const count = 30_000
await sql.query(`
  INSERT INTO orders (id, customer, idempotency_key, fingerprint, status, currency, total, reference, created_at)
  SELECT overlay(lpad(to_hex($1::bigint + n * 1000), 12, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0') PLACING '-' || substr(lpad(to_hex($1::bigint + n * 1000), 12, '0'), 9, 4) FROM 9 FOR 4)::uuid,
         CASE WHEN n < 3000 THEN 'once' WHEN n % 2 = 0 THEN 'whale' ELSE 'c' || n % 199 END, n, '',
         (CASE WHEN n % 50 = 0 THEN 'cancelled' WHEN n > $2 - 500 THEN 'placed' WHEN n < 4000 THEN 'shipped' ELSE 'delivered' END)::order_status, 'EUR', 520,
         CASE WHEN n < 5000 THEN 'campaign' WHEN n % 5 = 0 THEN 'web' WHEN n % 3 = 0 THEN 'ref-' || n END, to_timestamp($1::bigint / 1000 + n)
    FROM generate_series(1, $2) AS n`, [begin, count])
await sql.query('ANALYZE orders')

const middle = { from: begin + 10_000_000, to: begin + 12_000_000 }
const before = firstUuidAt(begin + 11_000_000)

const searches: Array<[what: string, search: Partial<OrderSearch>, index: string]> = [
  ['everything', {}, 'orders_pkey'],
  ['a time range', middle, 'orders_pkey'],
  ['a page within a time range', { ...middle, before }, 'orders_pkey'],
  ['a customer', { customer: 'c7' }, 'orders_customer_id_idx'],
  ['a customer whose orders are all old', { customer: 'once' }, 'orders_customer_id_idx'],
  ['a customer in a time range', { customer: 'c7', ...middle }, 'orders_customer_id_idx'],
  ['a status', { status: 'placed' }, 'orders_status_id_idx'],
  ['a status that only old orders have', { status: 'shipped' }, 'orders_status_id_idx'],
  ['a status in a time range', { status: 'cancelled', ...middle, before }, 'orders_status_id_idx'],
  ['a status in a time range that has none', { status: 'shipped', ...middle }, 'orders_status_id_idx'],
  ['a reference', { reference: 'ref-12003' }, 'orders_reference_id_idx'],
  ['a reference that many orders have', { reference: 'web', before }, 'orders_reference_id_idx'],
  ['a reference that only old orders have', { reference: 'campaign' }, 'orders_reference_id_idx'],
  ['a reference in a time range', { reference: 'web', ...middle }, 'orders_reference_id_idx'],
  ['a reference that no order has', { reference: 'nothing' }, 'orders_reference_id_idx']
]
/** With several conditions the planner reads one index and filters, or intersects two. Either way it reads a small part of all orders. */
const mixed: Array<[what: string, search: Partial<OrderSearch>]> = [
  ['a reference of a customer', { customer: 'c7', reference: 'ref-12003' }],
  ['a status of a customer', { customer: 'c7', status: 'cancelled' }],
  ['a status of the largest customer', { customer: 'whale', status: 'cancelled', ...middle }],
  ['a reference of the largest customer', { customer: 'whale', reference: 'web', before }],
  ['a reference and a status', { reference: 'web', status: 'cancelled' }],
  ['all conditions at once', { customer: 'whale', reference: 'web', status: 'cancelled', ...middle, before }]
]

for (const [what, search, index] of [...searches, ...mixed.map(([what, search]) => [what, search, undefined] as const)]) {
  t.test(`a search for ${what} reads ${index === undefined ? 'indexes, and few orders' : 'its index, and only the orders of the page'}`, async t => {
    statements.length = 0
    const found = await store.list({ customer: null, limit: 21, ...search })
    t.same(found.map(({ id }) => id), found.map(({ id }) => id).sort().reverse())
    const [statement] = statements
    if (statement === undefined) throw new Error('no statement was seen')
    const { nodes, blocks } = await planOf(statement)
    const scans = nodes.filter(node => node['Relation Name'] === 'orders')
    t.notOk(nodes.some(node => node['Node Type'] === 'Seq Scan'))
    const read = scans.reduce((sum, node) => sum + (node['Actual Rows'] ?? 0) + (node['Rows Removed by Filter'] ?? 0), 0)
    if (index !== undefined) {
      t.same([nodes.map(node => node['Index Name']).filter(name => name !== undefined), read], [[index], found.length], 'it reads only what it returns')
    } else {
      t.ok(read < count / 40, `reads ${read}`)
    }
    t.ok(blocks < 5 * (read + 4), `${blocks} blocks for ${read} orders`)
  })
}

t.test('firstUuidAt is below every id of its time and above every earlier id', async t => {
  for (const at of [0, 1, 1_764_266_400_000, 1_764_266_400_001, 2 ** 48 - 1]) {
    for (let n = 0; n < 50; n++) t.ok(firstUuidAt(at) < uuidv7(at) && uuidv7(Math.max(0, at - 1)) < firstUuidAt(Math.max(1, at)), String(at))
  }
  t.equal(firstUuidAt(-1), firstUuidAt(0))
  t.equal(firstUuidAt(2 ** 60), firstUuidAt(2 ** 48 - 1))
})

/** Without the subplans, which read the items of each order. */
async function planOf ({ query, params }: { query: string, params: string }): Promise<{ nodes: Plan[], blocks: number }> {
  const { rows: [row] } = await sql.query<{ 'QUERY PLAN': Array<{ Plan: Plan }> }>(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${query}`, JSON.parse(params))
  const top = row?.['QUERY PLAN'][0]?.Plan
  const nodes: Plan[] = []
  const take = (plan: Plan): void => {
    if (plan['Parent Relationship'] === 'SubPlan') return
    nodes.push(plan)
    for (const below of plan.Plans ?? []) take(below)
  }
  if (top !== undefined) take(top)
  return { nodes, blocks: (top?.['Shared Hit Blocks'] ?? 0) + (top?.['Shared Read Blocks'] ?? 0) }
}
