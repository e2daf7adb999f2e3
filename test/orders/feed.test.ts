import { setImmediate } from 'node:timers/promises'
import type pg from 'pg'
import t from 'tap'
import { OrderFeed, type FeedMessage } from '../../orders/feed.ts'
import { openStore } from '../store.ts'

t.test('the feed reads ahead for a returning client only as far as the client takes, and then sends it new events', async t => {
  const { store, sql } = await openStore(t)
  const begin = await store.feedHorizon()
  const place = async (count: number): Promise<void> => {
    await sql.query(`
      WITH placed AS (
        INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
        SELECT gen_random_uuid(), 'alice', gen_random_uuid(), '', 'EUR', 520, now() FROM generate_series(1, $1) RETURNING id
      )
      INSERT INTO outbox (order_id, version, type, attempts, available_at) SELECT id, 1, 'placed', 1, NULL FROM placed`, [count])
  }
  await place(3_500)
  // Another test's transaction on the same Postgres may hold the horizon back. Then these events would be new to every reader.
  while ((await store.feedHorizon()).tx <= await lastTx(sql)) await setImmediate()
  const feed = new OrderFeed({ store, pollMs: 1, onError: error => t.error(error) })
  t.teardown(() => feed.close())

  // This reader gets the new events only.
  const others: FeedMessage[] = []
  await feed.subscribe(null, undefined, { push: event => { others.push(event) }, drained: async () => {}, failed: () => t.fail() })
  const events: FeedMessage[] = []
  let take = (): void => {}
  await feed.subscribe(null, begin, {
    push: event => { events.push(event) },
    drained: async () => await new Promise(resolve => { take = resolve }),
    failed: () => t.fail()
  })
  for (let pages = 1; pages <= 3; pages++) {
    while (events.length < pages * 1_000) await setImmediate()
    // Polls and new events go on meanwhile.
    await place(1)
    while (others.length < pages) await setImmediate()
    t.equal(events.length, pages * 1_000)
    take()
  }
  while (events.length < 3_503) await setImmediate()
  take()
  await place(1)
  while (events.length < 3_504) await setImmediate()
  t.equal(new Set(events.map(({ cursor }) => cursor.orderId)).size, 3_504)
})

async function lastTx (sql: pg.Client): Promise<bigint> {
  const { rows: [last] } = await sql.query<{ tx: string }>('SELECT max(tx)::text AS tx FROM outbox')
  return BigInt(last?.tx ?? 0)
}
