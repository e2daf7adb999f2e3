import { test } from 'tap'
import { denialsMax, settle } from '../../commit/settle.ts'
import { connectStore, openStore } from '../store.ts'

const lostAnswer = new Error('Connection terminated unexpectedly')

/** Does the write, then `meanwhile`, and loses the first answer. */
function losingFirstAnswer<T> (write: () => Promise<T>, meanwhile: () => Promise<unknown> = async () => {}): () => Promise<T> {
  let calls = 0
  return async () => {
    const result = await write()
    if (++calls > 1) return result
    await meanwhile()
    throw lostAnswer
  }
}

test('a write whose answer was lost is repeated, and the repetition tells the outcome', async t => {
  const { store, products } = await openStore(t)
  const id = await placeOne({ store, products })
  const failures: string[] = []
  const result = await settle(losingFirstAnswer(() => store.transition('pay', id, null, null)), {
    timeoutMs: 10_000,
    repeatable: true,
    proves: ({ outcome }) => outcome === 'moved' || outcome === 'already',
    onFailure: (_error, failure) => failures.push(failure)
  })
  t.match(result, { outcome: 'already', order: { status: 'paid', version: 2 } })
  t.same(failures, ['unknown'])
})

test('the outcome of a transition whose answer was lost is unknown if the order has moved on since', async t => {
  const { store, products } = await openStore(t)
  const id = await placeOne({ store, products })
  const result = await settle(losingFirstAnswer(() => store.transition('pay', id, null, [1]), () => store.transition('ship', id, null, null)), {
    timeoutMs: 10_000,
    repeatable: true,
    proves: ({ outcome }) => outcome === 'moved' || outcome === 'already',
    onFailure () {}
  })
  t.same(result, { outcome: 'outcome-unknown' })
})

test('a stock is not set again over later sales when its answer was lost', async t => {
  const { store, sql, products } = await openStore(t)
  const put = () => products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 10n })
  const write = losingFirstAnswer(put, () => placeOne({ store, products }, 10))
  const result = await settle(write, { timeoutMs: 10_000, repeatable: false, proves: () => true, onFailure () {} })
  t.same(result, { outcome: 'outcome-unknown' })
  const { rows } = await sql.query('SELECT stock::int FROM products')
  t.same(rows, [{ stock: 0 }])
})

test('a delivery whose answer was lost is repeated, and counts once', async t => {
  const { store, sql, products } = await openStore(t)
  await placeOne({ store, products })
  const change = { id: '01900000-0000-7000-8000-000000000002', changedBy: 'boss', idempotencyKey: 'key', sku: 'ale', delta: 5n, reason: 'delivery', createdAt: new Date() }
  const result = await settle(losingFirstAnswer(() => products.changeStock(change)), {
    timeoutMs: 10_000,
    repeatable: true,
    proves: ({ outcome }) => outcome === 'changed' || outcome === 'replayed',
    onFailure () {}
  })
  t.match(result, { outcome: 'replayed', change: { ...change, idempotencyKey: undefined, stock: 104n } })
  const { rows } = await sql.query('SELECT stock::int FROM products')
  t.same(rows, [{ stock: 104 }])
})

test('a stock for one version is not set again when its answer was lost, and its outcome is unknown', async t => {
  const { store, sql, products } = await openStore(t)
  await placeOne({ store, products })
  const put = () => products.put({ sku: 'ale', stock: 10n }, { match: [2n] })
  const result = await settle(losingFirstAnswer(put, () => placeOne({ store, products }, 10, 'another key')), {
    timeoutMs: 10_000,
    repeatable: true,
    proves: ({ outcome }) => outcome === 'created' || outcome === 'updated',
    onFailure () {}
  })
  t.same(result, { outcome: 'outcome-unknown' })
  const { rows } = await sql.query('SELECT stock::int, version::int FROM products')
  t.same(rows, [{ stock: 0, version: 4 }])
})

test('a write that never reached the database is not started', async t => {
  const refused = Object.assign(new Error('refused'), { cause: { kind: 'DatabaseNotReachable' } })
  const result = await settle(async () => { throw refused }, { timeoutMs: 200, repeatable: true, proves: () => true, onFailure () {} })
  t.same(result, { outcome: 'not-started' })
})

test('a write that the database denies is retried a few times, and is not started', async t => {
  const { url } = await openStore(t)
  const { products } = connectStore(t, readOnly(url))
  const failures: string[] = []
  const begun = performance.now()
  const result = await settle(() => products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 10n }), {
    timeoutMs: 30_000,
    repeatable: false,
    proves: () => true,
    onFailure: (_error, failure) => failures.push(failure)
  })
  t.same(result, { outcome: 'not-started' })
  t.same(failures, Array(denialsMax).fill('denied'))
  t.ok(performance.now() - begun < 10_000)
})

test('a write with one unknown attempt stays unknown when the next attempt is denied', async t => {
  const { url, store, products } = await openStore(t)
  const id = await placeOne({ store, products })
  const { store: denied } = connectStore(t, readOnly(url))
  const result = await settle(losingFirstAnswer(() => store.transition('pay', id, null, null), async () => { store.transition = denied.transition.bind(denied) }), {
    timeoutMs: 3_000,
    repeatable: true,
    proves: ({ outcome }) => outcome === 'moved' || outcome === 'already',
    onFailure () {}
  })
  t.same(result, { outcome: 'outcome-unknown' })
})

test('a write that does not answer in time is unknown', async t => {
  const result = await settle(() => new Promise(() => {}), { timeoutMs: 50, repeatable: true, proves: () => true, onFailure () {} })
  t.same(result, { outcome: 'outcome-unknown' })
})

async function placeOne ({ store, products }: Pick<Awaited<ReturnType<typeof openStore>>, 'store' | 'products'>, quantity = 1, idempotencyKey = 'key'): Promise<string> {
  const id = idempotencyKey === 'key' ? '01900000-0000-7000-8000-000000000001' : '01900000-0000-7000-8000-000000000003'
  if (await products.find('ale') === null) await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 100n })
  await store.place([{ id, customer: 'alice', idempotencyKey, fingerprint: 'aa', currency: 'EUR', reference: null, createdAt: new Date(), items: [{ sku: 'ale', quantity }] }])
  return id
}

function readOnly (url: string): string {
  const sameDatabase = new URL(url)
  sameDatabase.searchParams.set('options', '-c default_transaction_read_only=on')
  return sameDatabase.href
}
