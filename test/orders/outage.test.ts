import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { OutboxRelay, type PlacedOrder, type RelayOptions } from '../../orders/relay.ts'
import type { OrderMessage, Publisher, Refusal } from '../../orders/publisher.ts'
import type { OrderStore } from '../../orders/store.ts'
import { connectStore, openStore } from '../store.ts'
import { idOf, pending } from './pending.ts'

async function open (t: Test) {
  const opened = await openStore(t)
  await opened.products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100_000n })
  return opened
}

/** @param leaseMs how long only the caller may publish their events */
async function place (store: OrderStore, numbers: number[], leaseMs?: number): Promise<PlacedOrder[]> {
  const placements = await store.place(numbers.map(pending), leaseMs)
  return placements.filter(placement => placement.outcome === 'created')
}

function upTo (count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

/** Takes what `answer` does not refuse, and keeps it in order. */
class Broker implements Publisher {
  readonly received: string[] = []
  calls = 0
  answer: (messages: OrderMessage[]) => Promise<Refusal[] | void> = async () => {}

  async publish (messages: OrderMessage[]): Promise<Refusal[]> {
    this.calls++
    const refusals = await this.answer(messages) ?? []
    for (const message of messages) if (!refusals.some(refusal => refusal.message === message)) this.received.push(`${Number(message.orderId.slice(-12))}/${message.version}`)
    return refusals
  }

  async called (count: number): Promise<void> {
    const until = this.calls + count
    while (this.calls < until) await delay(5)
  }
}

function refuse (which: (message: OrderMessage) => boolean) {
  return async (messages: OrderMessage[]): Promise<Refusal[]> => messages.filter(which).map(message => ({ message, reason: new Error('refused') }))
}

function throwFor (which: (message: OrderMessage) => boolean) {
  return async (messages: OrderMessage[]): Promise<void> => {
    if (messages.some(which)) throw new Error('ECONNREFUSED')
  }
}

function run (t: Test, options: Partial<RelayOptions> & Pick<RelayOptions, 'store' | 'publisher'>) {
  const lines: string[] = []
  const note = (_details: object, message: string): void => { lines.push(message) }
  const relay = new OutboxRelay({ log: { warn: note, error: note }, pollMs: 10, backoffMs: () => 1, probeMs: () => 1, attemptsMax: 3, ...options })
  const done = relay.run()
  const stop = async (): Promise<void> => {
    relay.stop()
    await done
  }
  t.teardown(stop)
  return { relay, stop, lines }
}

async function counted (sql: pg.Client) {
  const { rows } = await sql.query('SELECT count(*) FILTER (WHERE dead_at IS NOT NULL)::int AS dead, count(*) FILTER (WHERE available_at IS NOT NULL)::int AS waiting, coalesce(max(attempts) FILTER (WHERE available_at IS NOT NULL), 0)::int AS attempts FROM outbox')
  return rows[0]
}

async function drained (sql: pg.Client): Promise<void> {
  while ((await sql.query('SELECT FROM outbox WHERE available_at IS NOT NULL AND dead_at IS NULL UNION ALL SELECT FROM outbox_leases')).rowCount !== 0) await delay(5)
}

for (const [what, answer] of [
  ['rejects every call', throwFor(() => true)],
  ['refuses every event', refuse(() => true)],
  ['never answers', async () => await new Promise<never>(() => {})]
] as const) {
  test(`while a broker ${what}, the relay counts no attempt and no event dies; afterwards all are published in order`, async t => {
    const { store, sql } = await open(t)
    await place(store, upTo(600))
    for (const n of upTo(5)) await store.transition('pay', idOf(n), null, null)
    const broker = new Broker()
    broker.answer = answer
    const { relay, lines } = run(t, { store, publisher: broker, leaseMs: what === 'never answers' ? 60 : 30_000, batchMax: 100 })
    await broker.called(20)
    t.equal(relay.ownLeaseMs, 0, 'new orders leave their events to other instances')
    t.match(relay.health, { ok: false, reason: String })
    await place(store, [601, 602], relay.ownLeaseMs)
    await store.transition('pay', idOf(601), null, null)
    t.match(lines, [/takes no events/], 'one log line')
    t.ok(broker.calls < 100, 'the relay tries one event at a time')

    broker.answer = async () => {}
    await drained(sql)
    t.match(await counted(sql), { dead: 0, waiting: 0 })
    t.same(new Set(broker.received), new Set([...upTo(602).map(n => `${n}/1`), ...[...upTo(5), 601].map(n => `${n}/2`)]), 'no event is missing')
    for (const n of [...upTo(5), 601]) t.ok(broker.received.indexOf(`${n}/1`) < broker.received.indexOf(`${n}/2`))
    t.match(relay.health, { ok: true, isOpen: false })
  })
}

test('several instances count no attempt in an outage, also after a restart', async t => {
  const { store, sql, url } = await open(t)
  await place(store, upTo(20))
  const broker = new Broker()
  broker.answer = throwFor(() => true)
  const first = run(t, { store, publisher: broker })
  run(t, { store: connectStore(t, url).store, publisher: broker })
  await broker.called(30)
  await first.stop()
  run(t, { store: connectStore(t, url).store, publisher: broker })
  await broker.called(30)
  // An attempt under way counts until it returns.
  t.match(await counted(sql), { dead: 0, waiting: 20 })
  t.ok((await counted(sql)).attempts <= 1)
  broker.answer = async () => {}
  await drained(sql)
  t.equal(new Set(broker.received).size, 20)
})

test('an instance that cannot reach the broker leaves its events to one that can', async t => {
  const { store, sql, url } = await open(t)
  const cut = new Broker()
  cut.answer = throwFor(() => true)
  const { relay } = run(t, { store, publisher: cut })
  const since = performance.now()
  await relay.publishPlaced(await place(store, [1, 2, 3], 30_000), since)
  while (relay.ownLeaseMs !== 0) await delay(5)
  // These have a lease although the breaker is open by now: their commit was under way.
  await relay.publishPlaced(await place(store, [4, 5], 30_000), since)
  t.match(await counted(sql), { dead: 0, waiting: 5 })
  t.equal((await sql.query('SELECT FROM outbox_leases')).rowCount, 0)
  const other = new Broker()
  run(t, { store: connectStore(t, url).store, publisher: other })
  await drained(sql)
  t.same([...other.received].sort(), ['1/1', '2/1', '3/1', '4/1', '5/1'])
})

test('an event that fails while no other succeeds counts as an outage: it is retried, and does not die', async t => {
  const { store, sql } = await open(t)
  await place(store, [1])
  const broker = new Broker()
  broker.answer = throwFor(() => true)
  const { relay } = run(t, { store, publisher: broker })
  await broker.called(20)
  t.match(await counted(sql), { dead: 0, waiting: 1 })
  t.notOk(relay.health.ok)
})

test('an event that fails every call that contains it does not hold back the others, and dies while they succeed', async t => {
  const { store, sql } = await open(t)
  await place(store, upTo(50))
  const broker = new Broker()
  broker.answer = throwFor(({ orderId }) => orderId === idOf(7))
  run(t, { store, publisher: broker })
  while (new Set(broker.received).size < 49) await delay(5)
  for (let n = 51; (await counted(sql)).dead === 0; n++) {
    await place(store, [n])
    while (!broker.received.includes(`${n}/1`)) await delay(5)
  }
  t.match((await sql.query('SELECT order_id, attempts, last_error FROM outbox WHERE dead_at IS NOT NULL')).rows, [{ order_id: idOf(7), attempts: 3, last_error: 'ECONNREFUSED' }])
})

test('while a part of the broker is down, its events wait and do not die, and the others are published', async t => {
  const { store, sql } = await open(t)
  await place(store, upTo(110))
  for (const n of upTo(110)) await store.transition('pay', idOf(n), null, null)
  const broker = new Broker()
  const tries = new Map<string, number>()
  const refuseHalf = refuse(({ type }) => type === 'paid')
  broker.answer = async messages => {
    for (const { orderId, type } of messages) if (type === 'paid') tries.set(orderId, (tries.get(orderId) ?? 0) + 1)
    return await refuseHalf(messages)
  }
  const { lines } = run(t, { store, publisher: broker, attemptsMax: 1 })
  let placed = 110
  while (tries.size < 110 || Math.min(...tries.values()) < 3) {
    await place(store, [++placed])
    while (!broker.received.includes(`${placed}/1`)) await delay(5)
  }
  t.match(await counted(sql), { dead: 0 }, 'although an event has only one attempt')
  t.equal(lines.filter(line => /refuses many/.test(line)).length, 1)
  broker.answer = async () => {}
  await drained(sql)
  t.equal(broker.received.length, placed + 110)
})

test('a publisher that cannot connect at the start is retried, and gets no event before it connects', async t => {
  const { store, sql } = await open(t)
  const broker = new Broker()
  let refusals = 0
  const publisher = {
    connect: async () => {
      if (refusals++ < 3) throw new Error('ECONNREFUSED 127.0.0.1:9092')
    },
    publish: async (messages: OrderMessage[]) => {
      t.equal(refusals, 4)
      return await broker.publish(messages)
    }
  }
  const { relay } = run(t, { store, publisher })
  t.equal(relay.ownLeaseMs, 0)
  while (relay.health.ok) await delay(1)
  t.match(relay.health.reason, /ECONNREFUSED/)
  await place(store, [1])
  await drained(sql)
  t.same(broker.received, ['1/1'])
})

test('a message can be given to JSON.stringify, and its total is a JSON integer', async t => {
  const { store } = await open(t)
  await place(store, [1])
  const published = Promise.withResolvers<string>()
  run(t, { store, publisher: { async publish ([message]) { published.resolve(JSON.stringify(message)) } } })
  t.match(JSON.parse(await published.promise), { orderId: idOf(1), version: 1, type: 'placed', customer: 'alice', currency: 'EUR', total: 520, at: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/ })
})
