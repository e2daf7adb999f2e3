import { EventEmitter } from 'node:events'
import pg from 'pg'
import { test, type Test } from 'tap'
import { Intake, type IntakeOptions, type PendingOrder } from '../../orders/intake.ts'
import type { Client } from '../../commit/group-commit.ts'
import type { OrderRequest, Placement } from '../../orders/order.ts'
import { serviceWaitsForLock, terminateServices } from '../faults.ts'
import { connectStore, openStore } from '../store.ts'

async function openIntake (t: Test, options: Partial<IntakeOptions> = {}) {
  const { store, sql, url, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100n })
  const commits: number[] = []
  const intake = new Intake({
    place: batch => store.place(batch),
    batchMax: 100,
    inFlight: 2,
    queueMax: 100,
    timeoutMs: () => 10_000,
    onCommit: placements => commits.push(placements.length),
    ...options
  })
  return { intake, store, sql, url, commits }
}

function order (idempotencyKey: string, overrides: Partial<OrderRequest> = {}): OrderRequest {
  return { customer: 'alice', idempotencyKey, currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }], reference: null, ...overrides }
}

/** Locks the product in another session, so that a batch stays under way. The returned function releases it. */
async function holdStock (t: Test, url: string): Promise<() => Promise<void>> {
  const holder = new pg.Client({ connectionString: url, application_name: 'holder' })
  await holder.connect()
  t.teardown(() => holder.end().catch(() => {}))
  await holder.query("BEGIN; SELECT FROM products WHERE sku = 'ale' FOR UPDATE")
  return async () => { await holder.query('ROLLBACK') }
}

/** The client of an order. It emits 'close' when it disconnects. */
function client (): Client & EventEmitter {
  return Object.assign(new EventEmitter(), { destroyed: false })
}

async function stored (sql: pg.Client): Promise<string[]> {
  const { rows } = await sql.query<{ key: string }>('SELECT idempotency_key AS key FROM orders ORDER BY 1')
  return rows.map(({ key }) => key)
}

function readOnly (url: string): string {
  const sameDatabase = new URL(url)
  sameDatabase.searchParams.set('options', '-c default_transaction_read_only=on')
  return sameDatabase.href
}

test('orders that arrive together share one commit', async t => {
  const { intake, commits, sql } = await openIntake(t)
  const placed = await Promise.all(Array.from({ length: 50 }, (_, n) => intake.place(order(`key-${n}`))))
  t.ok(placed.every(({ outcome }) => outcome === 'created'))
  t.same(commits, [50])
  const { rows } = await sql.query('SELECT count(DISTINCT xmin::text)::int AS transactions, count(*)::int AS orders FROM orders')
  t.same(rows, [{ transactions: 1, orders: 50 }])
})

test('the intake keeps the limits of orders per batch and of batches under way', async t => {
  let running = 0
  let most = 0
  const { store, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100n })
  const sizes: number[] = []
  const intake = new Intake({
    batchMax: 8,
    inFlight: 3,
    queueMax: 100,
    timeoutMs: () => 10_000,
    async place (batch): Promise<Placement[]> {
      most = Math.max(most, ++running)
      sizes.push(batch.length)
      try {
        return await store.place(batch)
      } finally {
        running--
      }
    }
  })
  await Promise.all(Array.from({ length: 60 }, (_, n) => intake.place(order(`key-${n}`))))
  t.equal(most, 3)
  t.equal(Math.max(...sizes), 8)
})

test('an order that the database refuses fails alone', async t => {
  const { intake, sql } = await openIntake(t)
  // Postgres stores no NUL in a text; the route refuses it before it comes here.
  const outcomes = await Promise.all([intake.place(order('first')), intake.place(order('poisoned', { reference: '\u0000' })), intake.place(order('third'))])
  t.same(outcomes.map(({ outcome }) => outcome), ['created', 'rejected', 'created'])
  t.same(await stored(sql), ['first', 'third'])
})

test('an order that waits for a lock does not hold up the others of its batch', async t => {
  const { url, products } = await openStore(t)
  for (const sku of ['ale', 'pie']) await products.put({ sku, name: sku, unitPrice: 520n, currency: 'EUR', stock: 100n })
  const { store } = connectStore(t, url, { lock_timeout: 100 })
  const failures: string[] = []
  const intake = new Intake({
    place: batch => store.place(batch),
    batchMax: 100,
    inFlight: 1,
    queueMax: 100,
    timeoutMs: () => 10_000,
    onFailure: (_error, failure) => failures.push(failure)
  })
  const release = await holdStock(t, url)
  const held = intake.place(order('held'))
  const beside = intake.place(order('beside', { items: [{ sku: 'pie', quantity: 1 }] }))
  t.match(await beside, { outcome: 'created' })
  t.same(failures.slice(0, 2), ['blocked', 'blocked'], 'the batch, and then the order alone')
  await release()
  t.match(await held, { outcome: 'created' })
})

test('twins in flight share one order, and only the first of them created it', async t => {
  const { intake, url, sql } = await openIntake(t)
  const release = await holdStock(t, url)
  const first = intake.place(order('twin'))
  await serviceWaitsForLock(sql)
  const second = intake.place(order('twin'))
  const other = intake.place(order('twin', { reference: 'not the same' }))
  await release()
  const outcomes = await Promise.all([first, second, other])
  t.same(outcomes.map(({ outcome }) => outcome), ['created', 'replayed', 'key-reused'])
  t.same(await stored(sql), ['twin'])
})

test('a key whose first use was refused is free for another body', async t => {
  const { intake, url, sql } = await openIntake(t)
  const release = await holdStock(t, url)
  const first = intake.place(order('key', { items: [{ sku: 'ale', quantity: 1_000 }] }))
  await serviceWaitsForLock(sql)
  const second = intake.place(order('key'))
  await release()
  t.match(await first, { outcome: 'out-of-stock', sku: 'ale' })
  t.match(await second, { outcome: 'created' })
})

test('a full queue refuses an order, and the order is not stored', async t => {
  const { intake, url, sql } = await openIntake(t, { batchMax: 1, inFlight: 1, queueMax: 2 })
  const release = await holdStock(t, url)
  const running = intake.place(order('running'))
  await serviceWaitsForLock(sql)
  const waiting = [intake.place(order('waiting-1')), intake.place(order('waiting-2'))]
  t.equal(intake.queued, 2)
  t.same(await intake.place(order('one-too-many')), { outcome: 'not-started', reason: 'queue-full' })
  await release()
  for (const placed of [running, ...waiting]) t.match(await placed, { outcome: 'created' })
  t.same(await stored(sql), ['running', 'waiting-1', 'waiting-2'])
})

test('customers take turns, and none gets more than its share of a batch while others wait', async t => {
  const batches: string[][] = []
  const { store, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100n })
  const intake = new Intake({
    batchMax: 6,
    inFlight: 1,
    queueMax: 100,
    timeoutMs: () => 10_000,
    async place (batch) {
      batches.push(batch.map(({ customer }) => customer))
      return await store.place(batch)
    }
  })
  await Promise.all([...Array.from({ length: 12 }, (_, n) => intake.place(order(`key-${n}`))), ...['bob', 'carol'].map(customer => intake.place(order('only', { customer })))])
  t.same(batches[0], ['alice', 'bob', 'carol', 'alice'], 'alice gets a third of the batch')
  t.same(batches[1], Array(6).fill('alice'), 'alice gets all of it when nobody else waits')
})

test('a customer whose own queue is full is refused, and other customers are not', async t => {
  const { intake, url, sql } = await openIntake(t, { batchMax: 1, inFlight: 1, queuePerCustomer: 2 })
  const release = await holdStock(t, url)
  const running = intake.place(order('running'))
  await serviceWaitsForLock(sql)
  const waiting = [intake.place(order('waiting-1')), intake.place(order('waiting-2'))]
  t.same(await intake.place(order('one-too-many')), { outcome: 'not-started', reason: 'own-queue-full' })
  waiting.push(intake.place(order('bobs', { customer: 'bob' })))
  await release()
  for (const placed of [running, ...waiting]) t.match(await placed, { outcome: 'created' })
  t.same(await stored(sql), ['bobs', 'running', 'waiting-1', 'waiting-2'])
})

test('one key keeps no more different bodies than a customer may have orders waiting', async t => {
  const { intake, url, sql } = await openIntake(t, { queuePerCustomer: 2 })
  const release = await holdStock(t, url)
  const first = intake.place(order('key'))
  await serviceWaitsForLock(sql)
  const others = [1, 2].map(n => intake.place(order('key', { reference: `body ${n}` })))
  t.same(await intake.place(order('key', { reference: 'body 3' })), { outcome: 'not-started', reason: 'own-queue-full' })
  await release()
  t.match(await first, { outcome: 'created' })
  for (const other of others) t.same(await other, { outcome: 'key-reused' })
})

test('a waiting order is dropped when its client disconnects, unless another client asks for it too', async t => {
  const { intake, url, sql } = await openIntake(t, { batchMax: 1, inFlight: 1 })
  const release = await holdStock(t, url)
  const running = intake.place(order('running'))
  await serviceWaitsForLock(sql)
  const [alone, first, second, follower] = [client(), client(), client(), client()]
  const dropped = [
    intake.place(order('alone'), alone),
    intake.place(order('shared'), first),
    intake.place(order('running', { reference: 'not the same' }), follower),
    intake.place(order('too late'), Object.assign(client(), { destroyed: true }))
  ]
  const kept = intake.place(order('shared'), second)
  t.equal(intake.queued, 2)
  for (const gone of [alone, first, follower]) gone.emit('close')
  t.same(await Promise.all(dropped), Array(4).fill({ outcome: 'not-started', reason: 'client-gone' }))
  t.equal(intake.queued, 1)
  await release()
  t.match(await running, { outcome: 'created' })
  t.match(await kept, { outcome: 'created' })
  t.same(await stored(sql), ['running', 'shared'])
})

test('an order in a batch is completed although its client disconnects', async t => {
  const { intake, url, sql } = await openIntake(t)
  const release = await holdStock(t, url)
  const gone = client()
  const begun = intake.place(order('begun'), gone)
  await serviceWaitsForLock(sql)
  gone.emit('close')
  await release()
  t.match(await begun, { outcome: 'created' })
  t.same(await stored(sql), ['begun'])
})

test('an order that would wait for more than half of its time is refused at once, and waitMs says how long it would wait', async t => {
  const { store, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })
  const held = Promise.withResolvers<void>()
  const lasts = Promise.withResolvers<void>()
  let calls = 0
  // Each batch takes half a second by the test's own clock. The last one takes until the test releases it.
  const { now } = performance
  t.teardown(() => { performance.now = now })
  let time = 0
  performance.now = () => time
  const intake = new Intake({
    batchMax: 1,
    inFlight: 1,
    queueMax: 1_000,
    timeoutMs: () => 10_000,
    async place (batch) {
      if (++calls > 40) {
        lasts.resolve()
        await held.promise
      }
      time += 500
      return await store.place(batch)
    }
  })
  for (let n = 0; n < 40; n++) await intake.place(order(`before-${n}`))
  const placed = [intake.place(order('running'))]
  await lasts.promise
  let refused
  for (let n = 0; refused === undefined; n++) {
    if (intake.waitMs('alice') > 5_000) refused = await intake.place(order(`waiting-${n}`))
    else placed.push(intake.place(order(`waiting-${n}`)))
  }
  t.same(refused, { outcome: 'not-started', reason: 'queue-slow' })
  t.ok(placed.length >= 10 && placed.length <= 12, `${placed.length} orders of half a second each`)
  t.ok(intake.waitMs('alice') > 5_000 && intake.waitMs('alice') < 6_000, 'how long it would have waited')
  const bobs = intake.place(order('bobs', { customer: 'bob' }))
  t.ok(intake.waitMs('bob') < 2_000, 'a customer whose turn comes soon waits for less')
  held.resolve()
  for (const outcome of await Promise.all([...placed, bobs])) t.match(outcome, { outcome: 'created' })
})

test('a batch that loses its connection leaves no order unknown: the intake repeats the call, which settles it', async t => {
  const { intake, url, sql } = await openIntake(t)
  const release = await holdStock(t, url)
  const placed = [intake.place(order('a')), intake.place(order('b'))]
  await serviceWaitsForLock(sql)
  await terminateServices(sql)
  await release()
  for (const outcome of await Promise.all(placed)) t.match(outcome, { outcome: 'created' })
  t.same(await stored(sql), ['a', 'b'])
})

test('an order that committed while its answer was lost is found, and not placed again', async t => {
  const { store, sql, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100n })
  let calls = 0
  const intake = new Intake({
    batchMax: 10,
    inFlight: 1,
    queueMax: 10,
    timeoutMs: () => 10_000,
    async place (batch) {
      const placements = await store.place(batch)
      if (++calls === 1) throw new Error('Connection terminated unexpectedly')
      return placements
    }
  })
  t.match(await intake.place(order('once')), { outcome: 'replayed' })
  const { rows } = await sql.query("SELECT (SELECT count(*)::int FROM orders) AS orders, (SELECT stock::int FROM products WHERE sku = 'ale') AS stock")
  t.same(rows, [{ orders: 1, stock: 99 }])
})

test('an order that is refused after a lost call stays unknown: the lost call may still arrive', async t => {
  const { store } = await openStore(t)
  let calls = 0
  const intake = new Intake({
    batchMax: 10,
    inFlight: 1,
    queueMax: 10,
    timeoutMs: () => 10_000,
    async place (batch) {
      if (++calls === 1) throw new Error('Connection terminated unexpectedly')
      return await store.place(batch)
    }
  })
  t.same(await intake.place(order('unsure', { items: [{ sku: 'nothing-of-ours', quantity: 1 }] })), { outcome: 'outcome-unknown' })
  t.match(await intake.place(order('sure', { items: [{ sku: 'nothing-of-ours', quantity: 1 }] })), { outcome: 'unknown-product' })
})

test('an order whose commit hangs past the deadline is unknown until a retry settles it; an order that was never sent is not started', async t => {
  const { intake, url, sql } = await openIntake(t, { batchMax: 1, inFlight: 1, timeoutMs: () => 300 })
  const release = await holdStock(t, url)
  const sent = intake.place(order('sent'))
  await serviceWaitsForLock(sql)
  const waiting = intake.place(order('waiting'))
  t.same(await sent, { outcome: 'outcome-unknown' })
  t.same(await waiting, { outcome: 'not-started', reason: 'too-late' })
  await release()
  t.match(await intake.place(order('sent')), { outcome: /^(created|replayed)$/ })
  t.same(await stored(sql), ['sent'])
})

test('an order is not started while the database refuses connections, and is created once it accepts them', async t => {
  const { url, sql } = await openIntake(t)
  await sql.query("SELECT format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()) AS statement").then(({ rows }) => sql.query(rows[0].statement))
  const role = `visitor_${process.pid}`
  await sql.query(`CREATE ROLE ${role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`)
  t.teardown(() => sql.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
  const visitor = new URL(url)
  visitor.searchParams.set('user', role)
  // The limit does not hold for superusers. An ordinary role gets 53300, which proves that nothing was stored.
  const { store } = connectStore(t, visitor.href)
  const intake = new Intake({ place: batch => store.place(batch), batchMax: 10, inFlight: 1, queueMax: 10, timeoutMs: () => 300 })
  t.same(await intake.place(order('shut-out')), { outcome: 'not-started', reason: 'too-late' })

  await sql.query("SELECT format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()) AS statement").then(({ rows }) => sql.query(rows[0].statement))
  t.match(await intake.place(order('let-in')), { outcome: 'created' })
})

test('every order that the database denies is soon answered as not started', async t => {
  const { url, sql } = await openIntake(t)
  const { store } = connectStore(t, readOnly(url))
  const intake = new Intake({ place: batch => store.place(batch), batchMax: 10, inFlight: 1, queueMax: 10, timeoutMs: () => 30_000 })
  const begun = performance.now()
  t.same(await Promise.all(['one', 'two', 'three'].map(key => intake.place(order(key)))), Array(3).fill({ outcome: 'not-started', reason: 'denied' }))
  t.ok(performance.now() - begun < 10_000)
  t.equal(intake.queued + intake.batches, 0)
  t.same(await stored(sql), [])
})

test('an order whose first attempt may be stored stays unknown when the database denies the next attempt', async t => {
  const { url, sql, store } = await openIntake(t)
  const { store: denied } = connectStore(t, readOnly(url))
  let isLost = false
  const place = async (batch: PendingOrder[]): Promise<Placement[]> => {
    if (isLost) return await denied.place(batch)
    isLost = true
    await store.place(batch)
    throw new Error('Connection terminated unexpectedly')
  }
  const intake = new Intake({ place, batchMax: 10, inFlight: 1, queueMax: 10, timeoutMs: () => 3_000 })
  t.same(await intake.place(order('lost')), { outcome: 'outcome-unknown' })
  t.same(await stored(sql), ['lost'])
})

test('each batch of the intake is a promise that a stop can wait for', async t => {
  const tracked: Array<Promise<void>> = []
  const { intake, url, sql } = await openIntake(t, {
    track (label, work) {
      t.equal(label, 'order batch')
      tracked.push(work)
      return work
    }
  })
  const release = await holdStock(t, url)
  const placed = intake.place(order('tracked'))
  await serviceWaitsForLock(sql)
  t.equal(tracked.length, 1)
  t.equal(intake.batches, 1)
  await release()
  await tracked[0]
  t.same(await stored(sql), ['tracked'])
  await placed
  t.equal(intake.batches, 0)
})
