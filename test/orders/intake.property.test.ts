import fc from 'fast-check'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { Intake, type IntakeOutcome } from '../../orders/intake.ts'
import type { OrderRequest } from '../../orders/order.ts'
import type { OrderStore } from '../../orders/store.ts'
import { terminateServices } from '../faults.ts'
import { connectStore, openStore } from '../store.ts'

/** What a run does: instances of the service on one database, asked in bursts. */
interface Run {
  stock: Record<string, number>
  batchMax: number
  inFlight: number
  requests: Array<OrderRequest & { instance: 0 | 1, turn: number }>
}

interface Answer {
  request: OrderRequest
  outcome: IntakeOutcome
}

const catalogue = { ale: 520n, pie: 1_350n, malt: 4_200n }
const skus = [...Object.keys(catalogue), 'nothing-of-ours']

// Few customers, keys and products, so that twins, reused keys and scarce stock are the rule.
const request = fc.record({
  customer: fc.constantFrom('alice', 'bob'),
  idempotencyKey: fc.constantFrom('k1', 'k2', 'k3', 'k4', 'k5', 'k6'),
  currency: fc.constant('EUR'),
  items: fc.uniqueArray(fc.record({ sku: fc.oneof({ weight: 12, arbitrary: fc.constantFrom(...skus.slice(0, 3)) }, { weight: 1, arbitrary: fc.constant(skus[3] ?? '') }), quantity: fc.integer({ min: 1, max: 4 }) }), { selector: item => item.sku, minLength: 1, maxLength: 3 }),
  reference: fc.constantFrom(null, null, 'table 7'),
  instance: fc.constantFrom(0 as const, 1 as const),
  turn: fc.integer({ min: 0, max: 3 })
})
const run: fc.Arbitrary<Run> = fc.record({
  stock: fc.record({ ale: fc.integer({ min: 0, max: 12 }), pie: fc.integer({ min: 0, max: 40 }), malt: fc.constant(1_000) }),
  batchMax: fc.integer({ min: 1, max: 8 }),
  inFlight: fc.integer({ min: 1, max: 4 }),
  requests: fc.array(request, { minLength: 1, maxLength: 40 })
})

// A run that fails is looked at from all sides, which takes its time; it is a failure all the same.
const bounded = { interruptAfterTimeLimit: 50_000, markInterruptAsFailure: true }

test('whatever is asked at once, of two instances, each key makes at most one order and nothing is oversold', async t => {
  const { url, store, sql } = await openStore(t)
  const stores = [store, connectStore(t, url).store] as const

  await fc.assert(fc.asyncProperty(run, async ({ stock, batchMax, inFlight, requests }) => {
    await reset(store, sql, stock)
    const intakes = stores.map(store => new Intake({ place: batch => store.place(batch), batchMax, inFlight, queueMax: 1_000, timeoutMs: () => 5_000 }))
    const answers = await Promise.all(requests.map(async ({ instance, turn, ...request }) => {
      await turns(turn)
      return { request, outcome: await intakes[instance]!.place(request) }
    }))

    await holds(t, sql, stock, answers)
  }), { numRuns: 100, ...bounded })
})

test('where connections are cut in between, the same call settles what is unknown, and the same holds', async t => {
  const { url, store, sql } = await openStore(t)
  const stores = [store, connectStore(t, url).store] as const

  await fc.assert(fc.asyncProperty(run, fc.array(fc.integer({ min: 0, max: 200 }), { minLength: 1, maxLength: 3 }), async ({ stock, batchMax, inFlight, requests }, cuts) => {
    await reset(store, sql, stock)
    const intakes = stores.map(store => new Intake({ place: batch => store.place(batch), batchMax, inFlight, queueMax: 1_000, timeoutMs: () => 10_000 }))
    const cutting = cuts.reduce(async (before, cut) => {
      await before
      await turns(cut)
      await terminateServices(sql)
    }, Promise.resolve())
    const answers = await Promise.all(requests.map(async ({ instance, turn, ...request }) => {
      await turns(turn)
      return { request, outcome: await intakes[instance]!.place(request) }
    }))
    await cutting
    // What a client does that was told "unknown".
    for (const answer of answers) if (answer.outcome.outcome === 'outcome-unknown') answer.outcome = await intakes[0]!.place(answer.request)

    await holds(t, sql, stock, answers, { cut: true })
  }), { numRuns: 40, ...bounded })
})

async function turns (count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve))
}

async function reset (store: OrderStore, sql: pg.Client, stock: Run['stock']): Promise<void> {
  await sql.query('TRUNCATE orders, order_items, outbox, products')
  for (const [sku, unitPrice] of Object.entries(catalogue)) await store.putProduct({ sku, name: sku, unitPrice, currency: 'EUR', stock: BigInt(stock[sku] ?? 0) })
}

/** The invariants, on the tables as they are afterwards. */
async function holds (t: Test, sql: pg.Client, initial: Run['stock'], answers: Answer[], { cut = false } = {}): Promise<void> {
  const { rows: orders } = await sql.query<StoredOrder>(`
    SELECT o.id, o.customer, o.idempotency_key AS key, o.total::int, o.reference, encode(o.fingerprint, 'hex') AS fingerprint,
           json_agg(json_build_object('sku', i.sku, 'quantity', i.quantity, 'unitPrice', i.unit_price) ORDER BY i.position) AS items
      FROM orders o LEFT JOIN order_items i ON i.order_id = o.id GROUP BY o.id`)
  const { rows: events } = await sql.query<{ order_id: string, version: number, type: string }>('SELECT order_id, version, type FROM outbox')
  const { rows: products } = await sql.query<{ sku: string, stock: number }>('SELECT sku, stock::int FROM products')
  const available = new Map(products.map(({ sku, stock }) => [sku, stock]))
  const byKey = Map.groupBy(orders, order => `${order.customer} ${order.key}`)
  const answersByKey = Map.groupBy(answers, ({ request }) => `${request.customer} ${request.idempotencyKey}`)

  for (const [key, rows] of byKey) must(rows.length === 1 && answersByKey.has(key), `${key}: one order at most, and one that was asked for`)
  for (const [key, given] of answersByKey) {
    const [order] = byKey.get(key) ?? []
    const created = given.filter(({ outcome }) => outcome.outcome === 'created').length
    const acknowledged = given.some(({ outcome }) => 'order' in outcome)
    must(acknowledged === (order !== undefined), `${key}: it is stored where it was acknowledged, and only there`)
    // The call that settles an unknown outcome finds the row, and so calls it replayed.
    must(cut ? created <= 1 : created === (acknowledged ? 1 : 0), `${key}: only one of them made it`)
    for (const { request, outcome } of given) {
      switch (outcome.outcome) {
        case 'created':
        case 'replayed': {
          const stored = order && { id: order.id, items: order.items, total: order.total, reference: order.reference }
          const told = { id: outcome.order.id, items: outcome.order.items.map(item => ({ ...item, unitPrice: Number(item.unitPrice) })), total: Number(outcome.order.total), reference: outcome.order.reference }
          const asked = request.items.map(item => ({ ...item, unitPrice: Number(catalogue[item.sku as keyof typeof catalogue]) }))
          must(same(stored, told) && same(told.items, asked), `${key}: what was told is what is stored and what was asked`)
          must(told.total === asked.reduce((sum, item) => sum + item.quantity * item.unitPrice, 0), `${key}: the total is the sum`)
          break
        }
        case 'key-reused':
          must(order !== undefined && !same(order.items.map(({ sku, quantity }) => ({ sku, quantity })).concat(order.reference as never), request.items.concat(request.reference as never)), `${key}: the key made another order`)
          break
        case 'out-of-stock': {
          // Stock only falls in a run: what could not be had then cannot be had now.
          const wanted = request.items.find(item => item.sku === outcome.sku)?.quantity ?? 0
          must(wanted > (available.get(outcome.sku) ?? 0), `${key}: there really was not enough of ${outcome.sku}`)
          break
        }
        case 'unknown-product':
          must(outcome.sku === 'nothing-of-ours' && request.items.some(item => item.sku === outcome.sku), `${key}: the product is unknown`)
          break
        default:
          must(false, `${key}: ${outcome.outcome} has no place where nothing fails`)
      }
    }
  }

  for (const [sku, stock] of Object.entries(initial)) {
    const sold = orders.flatMap(order => order.items).filter(item => item.sku === sku).reduce((sum, item) => sum + item.quantity, 0)
    must((available.get(sku) ?? -1) >= 0 && stock === (available.get(sku) ?? 0) + sold, `${sku}: what was there is what is left and what was sold`)
  }
  must(same(events.map(({ order_id: id, version, type }) => `${id} ${version} ${type}`).sort(), orders.map(({ id }) => `${id} 1 placed`).sort()), 'one placed event for each order, and no other')
  t.pass(`${answers.length} answers, ${orders.length} orders`)
}

interface StoredOrder {
  id: string
  customer: string
  key: string
  total: number
  reference: string | null
  fingerprint: string
  items: Array<{ sku: string, quantity: number, unitPrice: number }>
}

/** Thrown, not asserted: fast-check then looks for the smallest run that breaks it. */
function must (condition: boolean, invariant: string): void {
  if (!condition) throw new Error(`Broken: ${invariant}`)
}

function same (a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
