import { EventEmitter } from 'node:events'
import fc from 'fast-check'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { FairQueue } from '../../commit/fair-queue.ts'
import { Intake, type IntakeOutcome, type PendingOrder } from '../../orders/intake.ts'
import type { Order, OrderRequest, Placement } from '../../orders/order.ts'
import type { ProductStore } from '../../orders/product-store.ts'
import { terminateServices } from '../faults.ts'
import { connectStore, openStore } from '../store.ts'

/** One run: bursts of requests to two instances of the service on one database. */
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

// fast-check takes its time to shrink a run that fails. An interrupted search is a failure all the same.
const bounded = { interruptAfterTimeLimit: 50_000, markInterruptAsFailure: true }

test('each key makes at most one order and no product is oversold, whatever two instances are asked at once', async t => {
  const { url, store, products, sql } = await openStore(t)
  const stores = [store, connectStore(t, url).store] as const

  await fc.assert(fc.asyncProperty(run, async ({ stock, batchMax, inFlight, requests }) => {
    await reset(products, sql, stock)
    const intakes = stores.map(store => new Intake({ place: batch => store.place(batch), batchMax, inFlight, queueMax: 1_000, timeoutMs: () => 5_000 }))
    const answers = await Promise.all(requests.map(async ({ instance, turn, ...request }) => {
      await turns(turn)
      return { request, outcome: await intakes[instance]!.place(request) }
    }))

    await holds(t, sql, stock, answers)
  }), { numRuns: 100, ...bounded })
})

test('each key makes at most one order and no product is oversold, also where connections are cut and retries settle what is unknown', async t => {
  const { url, store, sql, products } = await openStore(t)
  const stores = [store, connectStore(t, url).store] as const

  await fc.assert(fc.asyncProperty(run, fc.array(fc.integer({ min: 0, max: 200 }), {
    minLength: 1,
    maxLength: 3
  }), async ({ stock, batchMax, inFlight, requests }, cuts) => {
    await reset(products, sql, stock)
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
    // A client that was told "unknown" retries.
    for (const answer of answers) if (answer.outcome.outcome === 'outcome-unknown') answer.outcome = await intakes[0]!.place(answer.request)

    await holds(t, sql, stock, answers, { cut: true })
  }), { numRuns: 40, ...bounded })
})

// Steps for the queue alone. A model beside it says what a take may return.
const customers = ['alice', 'bob', 'carol', 'dave']
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ add: fc.constantFrom(...customers) }) },
  { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ take: fc.integer({ min: 1, max: 12 }), share: fc.integer({ min: 1, max: 5 }) }) }
)

test('the fair queue lets customers take turns and returns each entry once, whatever is added and removed', async t => {
  await fc.assert(fc.property(fc.array(step, { maxLength: 200 }), steps => {
    const queue = new FairQueue<number>()
    const lanes = new Map<string, number[]>()
    const taken = new Set<number>()
    let added = 0
    let removed = 0

    function takenFrom (max: number, share: number): Map<string, number[]> {
      const before = new Map([...lanes].map(([customer, lane]) => [customer, [...lane]]))
      const batch = queue.take(max, share)
      must(batch.length <= max && batch.every(item => !taken.has(item)), 'a take returns no entry twice, and no more than the limit')
      for (const item of batch) taken.add(item)
      const counts = [...before].map(([customer, lane]) => {
        const count = batch.filter(item => lane.includes(item)).length
        must(same(batch.filter(item => lane.includes(item)), lane.slice(0, count)), 'the entries of a customer come first in, first out')
        lanes.set(customer, lane.slice(count))
        return { waiting: lane.length, count }
      })
      const most = Math.max(0, ...counts.map(({ count }) => count))
      must(most <= share, 'no customer gets more than the share')
      must(counts.every(({ waiting, count }) => count >= Math.min(waiting, most - 1)), 'no customer gets another turn before all have had theirs')
      must(batch.length === Math.min(max, counts.reduce((sum, { waiting }) => sum + Math.min(waiting, share), 0)), 'a take returns as many as it may')
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
        must(queue.has(customer, item) && queue.delete(customer, item) && !queue.delete(customer, item), 'a waiting entry is removed once')
        lanes.set(customer, lane.filter(other => other !== item))
        removed++
      } else {
        takenFrom(what.take, what.share)
      }
      const waiting = [...lanes.values()].map(lane => lane.length)
      must(queue.size === waiting.reduce((sum, count) => sum + count, 0) && queue.customers === waiting.filter(count => count > 0).length, 'the sizes are those of the model')
      for (const customer of customers) must(queue.sizeOf(customer) === (lanes.get(customer)?.length ?? 0), 'the size of each customer is that of the model')
    }
    while (queue.size > 0) takenFrom(3, 1)
    must(taken.size + removed === added, 'no entry is forgotten')
  }), { numRuns: 500 })
  t.pass('in 500 runs')
})

test('no entry of the fair queue waits for more turns than aheadOf predicted', async t => {
  await fc.assert(fc.property(fc.array(fc.constantFrom(...customers), { maxLength: 60 }), fc.constantFrom(...customers), (before, customer) => {
    const queue = new FairQueue<number>()
    for (const [n, other] of before.entries()) queue.add(other, n)
    const ahead = queue.aheadOf(customer)
    queue.add(customer, -1)
    const position = queue.take(Infinity, Infinity).indexOf(-1)
    must(position <= ahead && ahead <= before.length, `${position} came before it, and ${ahead} were predicted`)
  }))
  t.pass('in 100 runs')
})

// For an intake with no database: clients that come and go, and a queue that is too small for them.
const visit = fc.record({
  customer: fc.constantFrom(...customers),
  idempotencyKey: fc.constantFrom('k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8'),
  reference: fc.constantFrom(null, null, null, 'table 7'),
  turn: fc.integer({ min: 0, max: 12 }),
  /** How many turns later its client disconnects. */
  goes: fc.option(fc.integer({ min: 0, max: 6 }))
})

test('the intake answers each request once, bounds its queue and sends no order that it calls not started, whichever clients disconnect', async t => {
  await fc.assert(fc.asyncProperty(fc.array(visit, { minLength: 1, maxLength: 80 }), fc.integer({ min: 1, max: 6 }), fc.integer({
    min: 1,
    max: 3
  }), fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 8 }), async (visits, batchMax, inFlight, queueMax, queuePerCustomer) => {
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
        must(batch.length <= batchMax && new Set(batch.map(keyOf)).size === batch.length, 'a batch keeps its limit and holds each key once')
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
    must(intake.queued === 0, 'no request is forgotten')
    must(answers.size === visits.length && [...answers.values()].every(count => count === 1), 'each request is answered once')
    for (const [key, given] of Map.groupBy(outcomes, ({ request }) => keyOf(request))) {
      const created = given.filter(({ outcome }) => outcome.outcome === 'created')
      must(created.length <= 1 && (created.length === 1) === stored.has(key), `${key}: exactly one request created the order, if it is stored`)
      if (given.every(({ outcome }) => outcome.outcome === 'not-started')) must(!stored.has(key), `${key}: an order that was not started is not stored`)
    }
    for (const { goes, outcome } of outcomes) must(outcome.outcome !== 'not-started' || outcome.reason !== 'client-gone' || goes !== null, 'only a request whose client disconnected is dropped')
    for (const { id } of stored.values()) must(sent.has(id), 'each stored order was sent')
  }), { numRuns: 150, ...bounded })
  t.pass('in 150 runs')
})

function keyOf ({ customer, idempotencyKey }: Pick<OrderRequest, 'customer' | 'idempotencyKey'>): string {
  return `${customer} ${idempotencyKey}`
}

async function turns (count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve))
}

async function reset (products: ProductStore, sql: pg.Client, stock: Run['stock']): Promise<void> {
  await sql.query('TRUNCATE orders, order_items, outbox, products')
  for (const [sku, unitPrice] of Object.entries(catalogue)) await products.put({ sku, name: sku, unitPrice, currency: 'EUR', stock: BigInt(stock[sku] ?? 0) })
}

/** Checks the invariants on the tables after a run. */
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

  for (const [key, rows] of byKey) must(rows.length === 1 && answersByKey.has(key), `${key}: there is at most one order, and it was asked for`)
  for (const [key, given] of answersByKey) {
    const [order] = byKey.get(key) ?? []
    const created = given.filter(({ outcome }) => outcome.outcome === 'created').length
    const acknowledged = given.some(({ outcome }) => 'order' in outcome)
    must(acknowledged === (order !== undefined), `${key}: an order is stored if and only if it was acknowledged`)
    // The call that settles an unknown outcome finds the row, and so calls it replayed.
    must(cut ? created <= 1 : created === (acknowledged ? 1 : 0), `${key}: only one request created the order`)
    for (const { request, outcome } of given) {
      switch (outcome.outcome) {
        case 'created':
        case 'replayed': {
          const stored = order && { id: order.id, items: order.items, total: order.total, reference: order.reference }
          const answered = {
            id: outcome.order.id,
            items: outcome.order.items.map(item => ({ ...item, unitPrice: Number(item.unitPrice) })),
            total: Number(outcome.order.total),
            reference: outcome.order.reference
          }
          const asked = request.items.map(item => ({ ...item, unitPrice: Number(catalogue[item.sku as keyof typeof catalogue]) }))
          must(same(stored, answered) && same(answered.items, asked), `${key}: the answer is what is stored and what was asked for`)
          must(answered.total === asked.reduce((sum, item) => sum + item.quantity * item.unitPrice, 0), `${key}: the total is the sum of the items`)
          break
        }
        case 'key-reused':
          must(order !== undefined && !same(order.items.map(({ sku, quantity }) => ({ sku, quantity })).concat(order.reference as never), request.items.concat(request.reference as never)), `${key}: the key made another order`)
          break
        case 'out-of-stock': {
          // Stock only falls in a run: too little then is too little now.
          const wanted = request.items.find(item => item.sku === outcome.sku)?.quantity ?? 0
          must(wanted > (available.get(outcome.sku) ?? 0), `${key}: there was too little of ${outcome.sku}`)
          break
        }
        case 'unknown-product':
          must(outcome.sku === 'nothing-of-ours' && request.items.some(item => item.sku === outcome.sku), `${key}: the product is unknown`)
          break
        default:
          must(false, `${key}: ${outcome.outcome} needs a failure, and nothing failed`)
      }
    }
  }

  for (const [sku, stock] of Object.entries(initial)) {
    const sold = orders.flatMap(order => order.items).filter(item => item.sku === sku).reduce((sum, item) => sum + item.quantity, 0)
    must((available.get(sku) ?? -1) >= 0 && stock === (available.get(sku) ?? 0) + sold, `${sku}: the stock at the start is what is left and what was sold`)
  }
  must(same(events.map(({ order_id: id, version, type }) => `${id} ${version} ${type}`).sort(), orders.map(({ id }) => `${id} 1 placed`).sort()), 'each order has one placed event, and there is no other event')
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

/** Throws, so that fast-check looks for the smallest run that breaks the invariant. */
function must (condition: boolean, invariant: string): void {
  if (!condition) throw new Error(`Broken: ${invariant}`)
}

function same (a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
