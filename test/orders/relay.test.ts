import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { DeadEvents } from '../../orders/dead-events.ts'
import type { OrderMessage, Publisher, Refusal } from '../../orders/publisher.ts'
import { OutboxRelay, type PlacedOrder, type RelayOptions } from '../../orders/relay.ts'
import type { OrderStore } from '../../orders/store.ts'
import { connectStore, openStore } from '../store.ts'
import { pending } from './pending.ts'

const quiet = { warn () {}, error () {} }

async function openOutbox (t: Test) {
  const { store, prisma, sql, url, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })
  return { store, deadEvents: new DeadEvents(prisma), sql, url }
}

/** @param leaseMs how long only the caller may publish its event */
async function place (store: OrderStore, n: number, leaseMs?: number): Promise<PlacedOrder> {
  const [placed] = await store.place([pending(n)], leaseMs)
  if (placed?.outcome !== 'created') throw new Error(`Order ${n} was not placed: ${placed?.outcome}`)
  return placed
}

/** Places, pays and ships an order: one event each. */
async function makeHistory (store: OrderStore, n: number): Promise<string> {
  const { order: { id } } = await place(store, n)
  await store.transition('pay', id, null, null)
  await store.transition('ship', id, null, null)
  return id
}

/** Runs a relay until the test ends. */
function runRelay (t: Test, options: Partial<RelayOptions> & Pick<RelayOptions, 'store' | 'publisher'>): { relay: OutboxRelay, done: Promise<void> } {
  const relay = new OutboxRelay({ log: quiet, pollMs: 10, backoffMs: () => 1, probeMs: () => 10, ...options })
  const done = relay.run()
  t.teardown(async () => {
    relay.stop()
    await done
  })
  return { relay, done }
}

class Broker implements Publisher {
  readonly received: OrderMessage[] = []
  #waiting: Array<{ count: number, resolve: () => void }> = []
  refuse: (message: OrderMessage) => boolean = () => false

  async publish (messages: OrderMessage[]): Promise<Refusal[]> {
    const refusals = messages.filter(message => this.refuse(message)).map(message => ({ message, reason: new Error('the broker refuses it') }))
    this.received.push(...messages.filter(message => refusals.every(refusal => refusal.message !== message)))
    for (const { count, resolve } of this.#waiting) if (this.received.length >= count) resolve()
    return refusals
  }

  async has (count: number): Promise<void> {
    if (this.received.length < count) await new Promise<void>(resolve => this.#waiting.push({ count, resolve }))
  }

  story (): string[] {
    return this.received.map(({ orderId, version, type }) => `${Number(orderId.slice(-12))} ${version} ${type}`)
  }
}

async function settled (sql: { query (text: string): Promise<{ rowCount: number | null }> }): Promise<void> {
  while ((await sql.query('SELECT FROM outbox WHERE available_at IS NOT NULL UNION ALL SELECT FROM outbox_leases')).rowCount !== 0);
}

test('the relay publishes every event once, in order for each order, and marks it', async t => {
  const { store, sql } = await openOutbox(t)
  for (const n of [1, 2, 3]) await makeHistory(store, n)
  const broker = new Broker()
  runRelay(t, { store, publisher: broker })
  await broker.has(9)
  await settled(sql)
  t.same(broker.story().sort(), ['1 1 placed', '1 2 paid', '1 3 shipped', '2 1 placed', '2 2 paid', '2 3 shipped', '3 1 placed', '3 2 paid', '3 3 shipped'])
  for (const n of [1, 2, 3]) t.same(broker.story().filter(event => event.startsWith(`${n} `)), [`${n} 1 placed`, `${n} 2 paid`, `${n} 3 shipped`])
  t.match(broker.received[0], { customer: 'alice', currency: 'EUR', total: 520 })
})

test('several relays share the events, and the events of each order stay in order', async t => {
  const { store, sql, url } = await openOutbox(t)
  for (let n = 1; n <= 20; n++) await makeHistory(store, n)
  const broker = new Broker()
  for (let i = 0; i < 3; i++) runRelay(t, { store: i === 0 ? store : connectStore(t, url).store, publisher: broker, batchMax: 3 })
  await broker.has(60)
  await settled(sql)
  t.equal(broker.received.length, 60, 'no event is published twice')
  for (let n = 1; n <= 20; n++) t.same(broker.story().filter(event => event.startsWith(`${n} `)), [`${n} 1 placed`, `${n} 2 paid`, `${n} 3 shipped`])
})

test('an event that the broker refuses is retried, and holds back only the later events of its order', async t => {
  const { store, sql } = await openOutbox(t)
  for (const n of [1, 2]) await makeHistory(store, n)
  const broker = new Broker()
  let refusals = 0
  broker.refuse = message => message.orderId.endsWith('1') && message.version === 2 && refusals++ < 3
  runRelay(t, { store, publisher: broker })
  await broker.has(6)
  await settled(sql)
  t.equal(refusals, 4)
  t.same(broker.story().filter(event => event.startsWith('1 ')), ['1 1 placed', '1 2 paid', '1 3 shipped'])
})

test('an event that keeps failing while others succeed dies; the later events of its order wait until an operator revives it', async t => {
  const { store, deadEvents, sql } = await openOutbox(t)
  const broker = new Broker()
  broker.refuse = message => message.orderId.endsWith('1') && message.version === 2
  const { relay } = runRelay(t, { store, publisher: broker, attemptsMax: 3 })
  await makeHistory(store, 1)
  for (let n = 2; (await sql.query('SELECT FROM outbox WHERE dead_at IS NOT NULL')).rowCount === 0; n++) {
    const before = broker.received.length
    await place(store, n)
    await broker.has(before + 1)
  }
  t.match((await sql.query('SELECT version, attempts, last_error FROM outbox WHERE dead_at IS NOT NULL')).rows, [{ version: 2, attempts: 3, last_error: 'the broker refuses it' }])
  t.match(await store.outboxBacklog(), { dead: 1 })

  broker.refuse = () => false
  await deadEvents.revive([{ orderId: '01900000-0000-7000-8000-000000000001', version: 2 }])
  relay.wake()
  while (broker.story().filter(event => event.startsWith('1 ')).length < 3) await delay(5)
  t.same(broker.story().filter(event => event.startsWith('1 ')), ['1 1 placed', '1 2 paid', '1 3 shipped'])
})

test('the relay retries when the lease ends, if its publisher never answers', async t => {
  const { store, sql } = await openOutbox(t)
  await makeHistory(store, 1)
  const broker = new Broker()
  let calls = 0
  runRelay(t, {
    store,
    leaseMs: 100,
    publisher: { publish: async messages => ++calls === 1 ? await new Promise(() => {}) : await broker.publish(messages) }
  })
  await broker.has(3)
  await settled(sql)
  t.same(broker.story(), ['1 1 placed', '1 2 paid', '1 3 shipped'])
})

test('a relay that is stopped settles the events that it has claimed, and claims no more', async t => {
  const { store, sql } = await openOutbox(t)
  await makeHistory(store, 1)
  const answer = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  const { relay, done } = runRelay(t, {
    store,
    publisher: {
      async publish () {
        asked.resolve()
        await answer.promise
      }
    }
  })
  await asked.promise
  relay.stop()
  answer.resolve()
  await done
  const { rows } = await sql.query('SELECT version, available_at IS NULL AS published, attempts FROM outbox ORDER BY version')
  t.same(rows, [{ version: 1, published: true, attempts: 1 }, { version: 2, published: false, attempts: 0 }, { version: 3, published: false, attempts: 0 }])
})

test('a process publishes the events of its own orders without a claim, and no other relay publishes them', async t => {
  const { store, sql } = await openOutbox(t)
  const broker = new Broker()
  const { relay } = runRelay(t, { store, publisher: broker })
  const others = new Broker()
  runRelay(t, { store, publisher: others })

  const since = performance.now()
  const placed = [await place(store, 1, 30_000), await place(store, 2, 30_000)]
  // The event of a transition waits for the one before it, whichever relay has that.
  await store.transition('pay', placed[0]?.order.id ?? '', null, null)
  t.same(await store.claimEvents(10, 1_000), [])
  await relay.publishPlaced(placed, since)
  t.same(broker.story().slice(0, 2), ['1 1 placed', '2 1 placed'])
  await settled(sql)
  t.same([...broker.story(), ...others.story()].sort(), ['1 1 placed', '1 2 paid', '2 1 placed'])
  t.notOk(others.story().includes('1 1 placed') || others.story().includes('2 1 placed'))

  const { rows } = await sql.query('SELECT o.id, o.created_at AS placed, e.created_at AS at, e.attempts FROM outbox e JOIN orders o ON o.id = e.order_id WHERE e.version = 1 ORDER BY o.id')
  for (const [index, row] of rows.entries()) {
    t.equal(row.attempts, 1)
    t.same(row.at, row.placed, 'the event is as old as its order')
    t.equal(broker.received[index]?.at, row.at.toISOString(), 'the published time is the stored one')
  }
})

test('a relay takes the events that another process placed and did not publish, once their lease is over', async t => {
  const { store } = await openOutbox(t)
  await place(store, 1, 300)
  const broker = new Broker()
  runRelay(t, { store, publisher: broker })
  await broker.has(1)
  t.same(broker.story(), ['1 1 placed'])
})

test('the relay retries only the refused one of several events that were placed together', async t => {
  const { store, sql } = await openOutbox(t)
  const broker = new Broker()
  broker.refuse = message => message.orderId.endsWith('1')
  const { relay } = runRelay(t, { store, publisher: broker })
  const since = performance.now()
  const placed = await store.place([1, 2, 3].map(pending), 30_000)
  await relay.publishPlaced(placed.filter(placement => placement.outcome === 'created'), since)
  t.same(broker.story(), ['2 1 placed', '3 1 placed'])
  broker.refuse = () => false
  await broker.has(3)
  await settled(sql)
  t.same(broker.story(), ['2 1 placed', '3 1 placed', '1 1 placed'])
})

test('a relay that settles after the end of its lease changes no event that another relay has claimed', async t => {
  const { store } = await openOutbox(t)
  const { order, tx } = await place(store, 1, 1)
  await store.endExpiredLeases()
  const [event] = await store.claimEvents(10, 30_000)
  t.match(event, { orderId: order.id, attempts: 2 })
  if (event === undefined) return
  await store.settleOwn([tx], [{ event, error: 'too late', retryInMs: 0, isCounted: true }])
  t.same(await store.claimEvents(10, 30_000), [])
})

test('an order that is placed while the process stops is still published', async t => {
  const { store, sql } = await openOutbox(t)
  const broker = new Broker()
  const { relay, done } = runRelay(t, { store, publisher: broker })
  relay.stop()
  await done
  const since = performance.now()
  await relay.publishPlaced([await place(store, 1, 30_000)], since)
  t.same(broker.story(), ['1 1 placed'])
  t.same((await sql.query('SELECT FROM outbox_leases')).rows, [], 'its event is settled when the call resolves, so that a stop can wait for it')
})

test('publishPlaced waits only for its own events, however many come after', async t => {
  const { store } = await openOutbox(t)
  const placed = await place(store, 1, 30_000)
  let published = 0
  const { relay } = runRelay(t, {
    store,
    publisher: {
      async publish () {
        // There is always one more, as under load.
        if (++published < 10) void relay.publishPlaced([placed], performance.now())
      }
    }
  })
  await relay.publishPlaced([placed], performance.now())
  t.equal(published, 1)
})

test('a slow publisher never gets more events at once than one batch holds', async t => {
  const { store } = await openOutbox(t)
  const all = await Promise.all([1, 2, 3, 4, 5].map(async n => await place(store, n, 30_000)))
  const seen: number[] = []
  const { relay } = runRelay(t, {
    store,
    batchMax: 2,
    publisher: {
      async publish (messages) {
        seen.push(messages.length)
        await delay(20)
      }
    }
  })
  await Promise.all(all.map(async placed => await relay.publishPlaced([placed], performance.now())))
  t.equal(seen.reduce((sum, size) => sum + size), 5)
  t.equal(Math.max(...seen), 2)
})

test('an event that has waited for half of its lease is left to the next relay', async t => {
  const { store } = await openOutbox(t)
  const broker = new Broker()
  const { relay } = runRelay(t, { store, publisher: broker })
  relay.stop()
  const placed = await place(store, 1, 30_000)
  await relay.publishPlaced([placed], performance.now() - 15_001)
  t.same(broker.story(), [])
})

test('the next relay publishes an event again if the first is killed between publishing and marking it', async t => {
  const { store, sql, url } = await openOutbox(t)
  await makeHistory(store, 1)
  const child = fork(new URL('relay-to-kill.ts', import.meta.url), { env: { ...process.env, DATABASE_URL: url }, execArgv: [] })
  const [published] = await once(child, 'message')
  t.equal(published, '1')
  child.kill('SIGKILL')
  await once(child, 'exit')

  const broker = new Broker()
  runRelay(t, { store, publisher: broker })
  await broker.has(3)
  await settled(sql)
  t.same(broker.story(), ['1 1 placed', '1 2 paid', '1 3 shipped'])
})
