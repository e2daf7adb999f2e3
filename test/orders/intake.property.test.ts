import { EventEmitter } from 'node:events'
import fc from 'fast-check'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { FairQueue } from '../../orders/fair-queue.ts'
import { Intake, type IntakeOutcome, type PendingOrder } from '../../orders/intake.ts'
import type { Order, OrderRequest, Placement } from '../../orders/order.ts'
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

// Of the queue by itself: what is added, taken out and taken, in any order. A model that sorts by rounds says what a take gives.
const customers = ['alice', 'bob', 'carol', 'dave']
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ add: fc.constantFrom(...customers) }) },
  { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ take: fc.integer({ min: 1, max: 12 }), share: fc.integer({ min: 1, max: 5 }) }) }
)

test('whatever is added and taken out, customers take turns, nobody is taken twice, and nobody is forgotten', async t => {
  await fc.assert(fc.property(fc.array(step, { maxLength: 200 }), steps => {
    const queue = new FairQueue<number>()
    const lanes = new Map<string, number[]>()
    const taken = new Set<number>()
    let added = 0
    let removed = 0

    function takenFrom (max: number, share: number): Map<string, number[]> {
      const before = new Map([...lanes].map(([customer, lane]) => [customer, [...lane]]))
      const batch = queue.take(max, share)
      must(batch.length <= max && batch.every(item => !taken.has(item)), 'nobody twice, and no more than there is room for')
      for (const item of batch) taken.add(item)
      const counts = [...before].map(([customer, lane]) => {
        const count = batch.filter(item => lane.includes(item)).length
        must(same(batch.filter(item => lane.includes(item)), lane.slice(0, count)), 'the first of a customer first')
        lanes.set(customer, lane.slice(count))
        return { waiting: lane.length, count }
      })
      const most = Math.max(0, ...counts.map(({ count }) => count))
      must(most <= share, 'no customer more than the share')
      must(counts.every(({ waiting, count }) => count >= Math.min(waiting, most - 1)), 'nobody a second turn before all had their first')
      must(batch.length === Math.min(max, counts.reduce((sum, { waiting }) => sum + Math.min(waiting, share), 0)), 'as many as there can be')
      return before
    }

    for (const what of steps) {
      if ('add' in what) {
        queue.add(what.add, added)
        lanes.set(what.add, [...lanes.get(what.add) ?? [], added++])
      } else if ('remove' in what) {
        const [customer, lane] = [...lanes].find(([, lane]) => lane.length > 0) ?? []
        const item = lane?.[what.remove % lane.length]
        if (customer === undefined || lane === undefined || item === undefined) continue
        must(queue.has(customer, item) && queue.delete(customer, item) && !queue.delete(customer, item), 'what waits is taken out once')
        lanes.set(customer, lane.filter(other => other !== item))
        removed++
      } else {
        takenFrom(what.take, what.share)
      }
      const waiting = [...lanes.values()].map(lane => lane.length)
      must(queue.size === waiting.reduce((sum, count) => sum + count, 0) && queue.customers === waiting.filter(count => count > 0).length, 'the sizes are right')
      for (const customer of customers) must(queue.sizeOf(customer) === (lanes.get(customer)?.length ?? 0), 'of each customer too')
    }
    while (queue.size > 0) takenFrom(3, 1)
    must(taken.size + removed === added, 'nobody is forgotten')
  }), { numRuns: 500 })
  t.pass('in 500 runs')
})

test('nobody waits for more turns than was foretold', async t => {
  await fc.assert(fc.property(fc.array(fc.constantFrom(...customers), { maxLength: 60 }), fc.constantFrom(...customers), (before, customer) => {
    const queue = new FairQueue<number>()
    for (const [n, other] of before.entries()) queue.add(other, n)
    const ahead = queue.aheadOf(customer)
    queue.add(customer, -1)
    const position = queue.take(Infinity, Infinity).indexOf(-1)
    must(position <= ahead && ahead <= before.length, `${position} came before it, and ${ahead} were foretold`)
  }))
  t.pass('in 100 runs')
})

// Of the intake with no database: clients who come and go, and a queue that is too small for them.
const visit = fc.record({
  customer: fc.constantFrom(...customers),
  idempotencyKey: fc.constantFrom('k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8'),
  reference: fc.constantFrom(null, null, null, 'table 7'),
  turn: fc.integer({ min: 0, max: 12 }),
  /** How many turns later its client goes. */
  goes: fc.option(fc.integer({ min: 0, max: 6 }))
})

test('whoever comes and goes, each is answered once, the queue is bounded, and what was not started was not sent', async t => {
  await fc.assert(fc.asyncProperty(fc.array(visit, { minLength: 1, maxLength: 80 }), fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 8 }), async (visits, batchMax, inFlight, queueMax, queuePerCustomer) => {
    const stored = new Map<string, PendingOrder>()
    const sent = new Set<string>()
    const answers = new Map<string, number>()
    const intake = new Intake({
      batchMax,
      inFlight,
      queueMax,
      queuePerCustomer,
      timeoutMs: () => 30_000,
      onAnswer: ({ id }) => answers.set(id, (answers.get(id) ?? 0) + 1),
      async place (batch) {
        must(batch.length <= batchMax && new Set(batch.map(keyOf)).size === batch.length, 'a batch has room, and each key once')
        for (const { id } of batch) sent.add(id)
        await turns(2)
        return batch.map((order): Placement => {
          const first = stored.get(keyOf(order))
          if (first === undefined) stored.set(keyOf(order), order)
          else if (first.fingerprint !== order.fingerprint) return { outcome: 'key-reused' }
          const { id, customer, createdAt, reference, currency } = first ?? order
          const placed: Order = { id, customer, currency, items: [], total: 0n, reference, status: 'placed', version: 1, createdAt }
          return first === undefined ? { outcome: 'created', order: placed, tx: 1n } : { outcome: 'replayed', order: placed }
        })
      }
    })
    let most = 0
    const outcomes = await Promise.all(visits.map(async ({ turn, goes, ...request }) => {
      await turns(turn)
      const client = Object.assign(new EventEmitter(), { destroyed: false })
      const placed = intake.place({ ...request, currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] }, client)
      most = Math.max(most, intake.queued)
      if (goes !== null) {
        await turns(goes)
        client.emit('close')
      }
      return { request, goes, outcome: await placed }
    }))
    must(most <= queueMax, 'the queue is bounded')
    must(intake.queued === 0, 'nobody is forgotten')
    must(answers.size === visits.length && [...answers.values()].every(count => count === 1), 'each is answered once')
    for (const [key, given] of Map.groupBy(outcomes, ({ request }) => keyOf(request))) {
      const created = given.filter(({ outcome }) => outcome.outcome === 'created')
      must(created.length <= 1 && (created.length === 1) === stored.has(key), `${key}: one of them made it, where it is stored`)
      if (given.every(({ outcome }) => outcome.outcome === 'not-started')) must(!stored.has(key), `${key}: what was not started is not stored`)
    }
    for (const { goes, outcome } of outcomes) must(outcome.outcome !== 'not-started' || outcome.reason !== 'client-gone' || goes !== null, 'dropped only where the client went')
    for (const { id } of stored.values()) must(sent.has(id), 'what is stored was sent')
  }), { numRuns: 150, ...bounded })
  t.pass('in 150 runs')
})

function keyOf ({ customer, idempotencyKey }: Pick<OrderRequest, 'customer' | 'idempotencyKey'>): string {
  return `${customer} ${idempotencyKey}`
}

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
