import pg from 'pg'
import { test, type Test } from 'tap'
import { request } from 'undici'
import { faultsOf } from '../../prisma/rolling-rules.ts'
import { createTestDatabase } from '../postgres.ts'
import { Load, notStarted, place } from './load.ts'
import { contract, expand, nextVersion, rename } from './next-version.ts'
import { migrateTo, startVersion, type Version } from './version.ts'

test('renaming a column under load, with version N beside version N+1, fails no request and loses no order', async t => {
  t.same(await faultsOf(expand.script), [], 'the check lets the first step pass')
  const { url, sql } = await stocked(t)
  const next = nextVersion(t)
  const load = new Load()
  const old = [await startVersion(t, url)]
  load.add(...old)
  load.start(4)
  for (const version of old) await load.acknowledges(50, version)

  next.add(expand)
  const reader = await connect(t, url)
  await reader.query('BEGIN; SELECT FROM orders LIMIT 1')
  const behind = await migrateTo(next.tree, url)
  t.match(behind, { code: 1, output: /lock timeout.*Postgres took all of it back/ }, 'a migration that waits for a long transaction gives up before the statements behind it do')
  await reader.query('ROLLBACK')
  t.match(await migrateTo(next.tree, url), { code: 0, output: /applied 29990101000000_expand_label/ })
  const again = await startVersion(t, url)
  old.push(again)
  load.add(again)
  for (const version of old) await load.acknowledges(50, version)

  while (await fillBatch(sql) > 0);
  const early = load.attempts.find(({ saw }) => 'id' in saw)

  const young: Version[] = []
  for (const leaving of old) {
    const coming = await startVersion(t, url, { tree: next.tree })
    load.add(coming)
    young.push(coming)
    await load.acknowledges(50, coming)
    await retire(load, leaving)
    t.same(await leaving.exited, [0, null])
  }
  const [first] = young
  if (first === undefined || early === undefined || !('id' in early.saw)) throw new Error('Version N placed no order, or version N+1 was not started.')
  t.same(await place(first, early.key), early.saw, 'version N+1 replays what version N acknowledged, byte for byte')
  t.equal(await referenceAt(first, early.saw.id), early.key, 'version N+1 reads it, too')

  const faults = await faultsOf(contract.script)
  t.match(faults, [{ why: /still reads and writes this column/, safeBecause: /^version N\+1 reads label alone/ }], 'the check accepts the last step for its reason')
  next.add(contract)
  t.match(await migrateTo(next.tree, url), { code: 0, output: /applied 29990102000000_contract_reference/ })
  for (const version of young) await load.acknowledges(50, version)
  await load.stop()

  const acknowledged = load.attempts.filter(({ saw }) => 'id' in saw)
  const { rows } = await sql.query<{ key: string, id: string, label: string }>('SELECT idempotency_key AS key, id, label FROM orders')
  const stored = new Map(rows.map(({ key, ...order }) => [key, order]))
  t.comment(`${acknowledged.length} acknowledged, ${load.attempts.length - acknowledged.length} refused`)
  t.same(load.attempts.filter(({ saw }) => 'problem' in saw && saw.problem !== notStarted), [], 'every answer is an order, or says that nothing was stored')
  t.same(acknowledged.filter(({ key, saw }) => 'id' in saw && stored.get(key)?.id !== saw.id), [], 'every acknowledged order is stored')
  t.same(rows.filter(({ key, label }) => label !== key), [], 'every order has its reference, whichever version placed it')
  t.equal(rows.length, new Set(acknowledged.map(({ key }) => key)).size, 'no other order is stored')
  t.same((await sql.query('SELECT 2000000000 - stock AS sold FROM products')).rows, [{ sold: String(rows.length) }], 'each order took its stock once')
})

test('a column renamed in one statement, which the check refuses, makes version N fail', async t => {
  t.match(await faultsOf(rename.script), [{ line: 3, why: /knows the old name only/, safeBecause: undefined }])

  const { url } = await stocked(t)
  const version = await startVersion(t, url, { REQUEST_TIMEOUT_MS: '1000' })
  const before = await place(version, 'before')
  t.match(before, { id: String })
  const next = nextVersion(t)
  next.add(rename)
  t.match(await migrateTo(next.tree, url), { code: 0 })
  t.same(await place(version, 'after'), { problem: notStarted }, 'version N places no order')
  t.equal(await referenceAt(version, 'id' in before ? before.id : ''), undefined, 'version N reads no order')
})

async function stocked (t: Test): Promise<{ url: string, sql: pg.Client }> {
  const { url } = await createTestDatabase(t)
  const sql = await connect(t, url)
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 2000000000)")
  return { url, sql }
}

async function connect (t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** Fills the new column of a batch of older orders. The batch is small, so that no request waits for it. */
async function fillBatch (sql: pg.Client): Promise<number> {
  const { rowCount } = await sql.query(`
    UPDATE orders SET label = reference
     WHERE id IN (SELECT id FROM orders WHERE label IS NULL AND reference IS NOT NULL LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED)`)
  return rowCount ?? 0
}

/** Stops an instance, and takes it out of rotation once it drains, as a balancer that checks /readyz does. */
async function retire (load: Load, version: Version): Promise<void> {
  version.child.kill('SIGTERM')
  await version.line(/"msg":"draining"/)
  load.remove(version)
}

/** The reference of an order; undefined if it cannot be read. */
async function referenceAt (version: Version, id: string): Promise<string | undefined> {
  const { statusCode, body } = await request(`${version.url}/orders/${id}`, { headers: { authorization: `Bearer ${version.token('alice')}` } })
  const { reference } = await body.json() as { reference?: string }
  return statusCode === 200 ? reference : undefined
}
