import { writeFileSync } from 'node:fs'
import type pg from 'pg'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { Progress } from '../../verify/progress.ts'
import { random } from '../../verify/random.ts'
import { readArguments } from '../arguments.ts'
import { shuffled } from '../shuffled.ts'
import { Contest } from './contest.ts'
import { median } from './figures.ts'
import { addMonth, backfillKeys, boundConstraint, detachMonth, firstIdOf, indexesOf, keepKeys, keyTable, monthAfter, swap } from './partitioned-layout.ts'
import { environmentLines, times, whole } from './table.ts'

const help = `Compares orders partitioned by month, with keys that stay unique forever, with today's layout: docs/growth.md.

node bench/orders/partitions.ts [--stored 10000000] [--rounds 3] [--seconds 5] [--key-partitions 0] [--seed n] [--json file]

Fills both with orders of one line over a year, places orders into both in turns, removes a month from both, and changes
today's layout into the other while orders arrive. Ten million orders take some 25 GB below TMPDIR, which are freed at the end.`

const customers = 10_000
const months = 12
const chunk = 250_000
const backfillBatch = 20_000
type Layout = 'today' | 'by month'

interface Size { name: string, bytes: number }
interface Step { what: string, ms: number, lock: string }

const asked = `
  WITH asked AS (
    SELECT n, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id,
           'customer-' || 1 + (hashint8(n) & 1073741823) % ${customers} AS customer, md5('key' || n)::uuid::text AS key, sha256(n::text::bytea) AS fingerprint, (hashint8(n) & 1073741823) % 1000 AS product
      FROM (SELECT n, $4::timestamptz - ($3::bigint - n) * (interval '365 days' / $3::bigint) AS at FROM generate_series($1::bigint, $2::bigint) AS n) times
  ), lines AS (
    INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
    SELECT id, 1, 'product-' || lpad(product::text, 4, '0'), 1, 100 + product FROM asked
  )`

const insertToday = `${asked}
  INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
  SELECT id, customer, key, fingerprint, 'EUR', 100 + product, at FROM asked`

const insertByMonth = `${asked}, keys AS (
    INSERT INTO order_keys (customer, idempotency_key, order_id, fingerprint) SELECT customer, key, id, fingerprint FROM asked
  )
  INSERT INTO orders (id, customer, currency, total, created_at)
  SELECT id, customer, 'EUR', 100 + product, at FROM asked`

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
await main()

async function main (): Promise<void> {
  const options = readArguments({
    stored: { type: 'string', default: '10000000' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    'key-partitions': { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false }
  }, help, ['stored', 'rounds', 'seconds', 'key-partitions', 'seed'])
  const stored = Number(options.stored)
  const keyPartitions = Number(options['key-partitions'])
  const now = new Date()

  const progress = new Progress(process.stderr)
  const contest = await Contest.create()
  try {
    const environment = await contest.environment()
    console.log(`${environmentLines(environment).join('\n')}\n`)

    const today = await contest.createDatabase('uniform')
    const byMonth = await contest.createDatabase('uniform')
    const databases: Record<Layout, string> = { today, 'by month': byMonth }
    await contest.session(async client => {
      await run(client, keyTable(keyPartitions))
      await swap(client, firstIdOf(monthAfter(now, -months)))
      for (let n = -months; n <= 2; n++) await run(client, addMonth(monthAfter(now, n)))
    }, byMonth)
    for (const [layout, database] of Object.entries(databases) as Array<[Layout, string]>) {
      await contest.session(client => fill(client, layout, stored, now, n => progress.state(`${layout}: ${whole(n)} of ${whole(stored)} orders`)), database)
      progress.line(`${layout}: filled with ${whole(stored)} orders`)
    }

    const sizes = { today: await sizesOf(contest, today), 'by month': await sizesOf(contest, byMonth) }
    console.log(sizesTable(sizes, stored))

    const rates: Record<Layout, number[]> = { today: [], 'by month': [] }
    const next = random(Number(options.seed))
    for (let round = 1; round <= Number(options.rounds); round++) {
      for (const layout of shuffled(['today', 'by month'] as const, next)) {
        const rate = await placeBatches(contest, databases[layout], Number(options.seconds) * 1_000)
        rates[layout].push(rate)
        progress.line(`round ${round}  ${layout.padEnd(8)}  ${whole(rate).padStart(7)} orders/s`)
      }
    }
    console.log(ratesTable(rates))

    const checks: string[] = []
    const month = monthAfter(now, -months + 1)
    const bounds = [firstIdOf(month), firstIdOf(monthAfter(month, 1))] as const
    const [{ count = '0', id: archived = '' } = {}] = await contest.query<{ count: string, id: string }>('SELECT count(*), min(id::text) AS id FROM orders WHERE id >= $1 AND id < $2', byMonth, [...bounds])
    const archivedKey = await keyOf(contest, byMonth, archived)
    const keptKey = await keyOf(contest, byMonth, firstIdOf(monthAfter(now, -1)))
    const detachMs = await contest.session(client => timed(() => run(client, detachMonth(month))), byMonth)
    progress.line(`a month detached in ${whole(detachMs)} ms`)
    checks.push(await check('a key of a month that is detached makes no second order', async () => await place(contest, byMonth, archivedKey) === 'archived' && await place(contest, byMonth, archivedKey) === 'archived'))
    checks.push(await check('a key of a month that is there is replayed', async () => await place(contest, byMonth, keptKey) === 'replayed'))
    checks.push(await check('of 32 twins at once one is created', async () => await twins(contest, byMonth)))
    const { ms: deleteMs, last } = await contest.session(async client => {
      let deleted = 0
      const ms = await timed(async () => { deleted = (await client.query('DELETE FROM orders WHERE id >= $1 AND id < $2', [...bounds])).rowCount ?? 0 })
      return { ms, last: deleted }
    }, today)
    console.log(`A month of ${whole(Number(count))} orders: detached in ${whole(detachMs)} ms; the ${whole(last)} of today's layout deleted in ${whole(deleteMs)} ms, ${times(deleteMs / detachMs)}, and the room is not given back.\n`)

    // The service places some orders while the layout changes.
    const steps: Step[] = []
    const placing = placeUntil(contest, today)
    const oldKey = await keyOf(contest, today, firstIdOf(monthAfter(now, -1)))
    await contest.session(async client => {
      const bound = firstIdOf(monthAfter(now, 1))
      const step = async (what: string, lock: string, work: () => Promise<unknown>): Promise<void> => {
        const ms = await timed(work)
        steps.push({ what, lock, ms })
        progress.line(`${what}: ${whole(ms)} ms`)
      }
      await step('1 the table of keys', 'none', () => run(client, keyTable(keyPartitions)))
      await step('2 a trigger keeps the keys of new orders there, too', 'SHARE ROW EXCLUSIVE on orders, for the catalogue', () => client.query(`BEGIN; ${keepKeys} COMMIT`))
      await step('3 fill in the keys of the others', 'none; rows of order_keys', async () => {
        for (let last: string | undefined = '00000000-0000-0000-0000-000000000000'; last !== undefined;) {
          last = (await client.query<{ last: string }>(backfillKeys, [last, backfillBatch])).rows[0]?.last
        }
      })
      const constraints = [boundConstraint('orders', 'id', bound), boundConstraint('order_items', 'order_id', bound)]
      await step('4 the bound, as constraints NOT VALID', 'ACCESS EXCLUSIVE, for the catalogue', async () => { for (const { add } of constraints) await client.query(add) })
      await step('5 validate them', 'SHARE UPDATE EXCLUSIVE', async () => { for (const { validate } of constraints) await client.query(validate) })
      await step('6 the swap', 'ACCESS EXCLUSIVE, for the catalogue', () => swap(client, bound))
      await step('7 the months to come', 'SHARE UPDATE EXCLUSIVE', async () => { for (let n = 1; n <= 3; n++) await run(client, addMonth(monthAfter(now, n))) })
      await step('8 drop the index of keys of the old table', 'SHARE UPDATE EXCLUSIVE', () => client.query('DROP INDEX CONCURRENTLY orders_customer_idempotency_key_key_before'))
    }, today)
    const { placed, longestMs, retried, failures } = await placing.stop()
    console.log(stepsTable(steps))
    checks.push(await check('a key from before the swap is replayed', async () => await place(contest, today, oldKey) === 'replayed'))
    checks.push(await check('of 32 twins at once one is created, after the swap', async () => await twins(contest, today)))
    checks.push(await check(`no order failed on the way: ${whole(placed)} were placed one by one, the longest took ${whole(longestMs)} ms, sent again was one after ${retried.join(', ') || 'nothing'}`, async () => failures.length === 0))
    for (const failure of failures) console.log(failure)
    checks.push(await check('there are as many keys as orders', async () => (await contest.query('SELECT 1 WHERE (SELECT count(*) FROM orders) = (SELECT count(*) FROM order_keys)', today)).length === 1))
    console.log(`\n${checks.join('\n')}\n`)
    if (checks.some(line => line.startsWith('✗'))) process.exitCode = 1
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ date: now.toISOString(), environment, options, sizes, rates, detachMs, deleteMs, steps, placed, longestMs, checks }, null, 2)}\n`)
    console.log('Next: docs/growth.md says what these figures were elsewhere.')
  } finally {
    await contest.close()
  }
}

/** The same orders over a year in both layouts; without events, which retention would have pruned. */
async function fill (client: pg.Client, layout: Layout, orders: number, now: Date, onProgress: (stored: number) => void): Promise<void> {
  // The rows are generated consistently; checking each foreign key would take most of the time.
  await client.query("SET session_replication_role = 'replica'")
  await client.query("SET maintenance_work_mem = '1GB'")
  await client.query('SET synchronous_commit = off')
  const indexes = await indexesOf(client, 'orders')
  for (const { name } of indexes) await client.query(`DROP INDEX ${name}`)
  if (layout === 'by month') await client.query('ALTER TABLE order_keys DROP CONSTRAINT order_keys_pkey')
  for (let stored = 0; stored < orders; stored += chunk) {
    await client.query(layout === 'today' ? insertToday : insertByMonth, [stored, Math.min(orders, stored + chunk) - 1, orders, now])
    onProgress(Math.min(orders, stored + chunk))
  }
  for (const { definition } of indexes) await client.query(definition)
  if (layout === 'by month') await client.query('ALTER TABLE order_keys ADD CONSTRAINT order_keys_pkey PRIMARY KEY (customer, idempotency_key)')
  await client.query('VACUUM ANALYZE')
  await client.query('CHECKPOINT')
}

/** Sizes of tables and indexes; those of partitions are added up under the name of their parent. */
async function sizesOf (contest: Contest, database: string): Promise<Size[]> {
  const rows = await contest.query<{ name: string, bytes: string }>(`
    SELECT coalesce(pg_partition_root(oid), oid)::regclass::text AS name, sum(pg_relation_size(oid) + CASE WHEN relkind = 'r' THEN pg_relation_size(oid, 'fsm') + pg_relation_size(oid, 'vm') ELSE 0 END) AS bytes
      FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i') AND relname ~ '^order' GROUP BY 1 HAVING sum(pg_relation_size(oid)) > 1e6 ORDER BY 1`, database)
  return rows.map(({ name, bytes }) => ({ name, bytes: Number(bytes) }))
}

async function keyOf (contest: Contest, database: string, from: string): Promise<Key> {
  const [row] = await contest.query<{ order: { customer: string, id: string, idempotency_key?: string | null } }>('SELECT to_jsonb(o) AS order FROM orders o WHERE id >= $1 ORDER BY id LIMIT 1', database, [from])
  if (row === undefined) throw new Error('There is no order to take the key of.')
  const key = row.order.idempotency_key ?? (await contest.query<{ idempotency_key: string }>('SELECT idempotency_key FROM order_keys WHERE customer = $1 AND order_id = $2', database, [row.order.customer, row.order.id]))[0]?.idempotency_key
  const fingerprint = (await contest.query<{ hex: string }>(row.order.idempotency_key == null ? "SELECT encode(fingerprint, 'hex') AS hex FROM order_keys WHERE order_id = $1 AND customer = $2" : "SELECT encode(fingerprint, 'hex') AS hex FROM orders WHERE id = $1 AND customer = $2", database, [row.order.id, row.order.customer]))[0]?.hex
  if (key === undefined || fingerprint === undefined) throw new Error('An order has no key.')
  return { customer: row.order.customer, key, fingerprint }
}

interface Key { customer: string, key: string, fingerprint: string }

/** Places one order by the service's statement. @returns the outcome */
async function place (contest: Contest, database: string, key: Key): Promise<string | undefined> {
  return await contest.session(client => placeOn(client, key), database)
}

async function placeOn (client: pg.Client, key: Key): Promise<string | undefined> {
  return (await placeAll(client, [key]))[0]
}

/** Places orders of one line each. @returns the outcomes */
async function placeAll (client: pg.Client, keys: Key[]): Promise<string[]> {
  const createdAt = new Date()
  const batch = {
    ids: keys.map(() => uuidv7(createdAt.getTime())),
    customers: keys.map(({ customer }) => customer),
    keys: keys.map(({ key }) => key),
    fingerprints: keys.map(({ fingerprint }) => fingerprint),
    currencies: keys.map(() => 'EUR'),
    references: keys.map(() => null),
    createdAt: keys.map(() => createdAt),
    lineOrders: keys.map((_, n) => n + 1),
    linePositions: keys.map(() => 1),
    lineSkus: keys.map(({ key }) => `product-0${parseInt(key.slice(0, 4), 16) % 900 + 100}`),
    lineQuantities: keys.map(() => 1)
  }
  const { rows: [row] } = await client.query<{ placed: { outcomes: string[] } }>({ name: 'place_orders', text: 'SELECT place_orders($1::json, 0) AS placed', values: [JSON.stringify(batch)] })
  return row?.placed.outcomes ?? []
}

/** Like the intake under load: batches of 128, four at once. @returns orders per second */
async function placeBatches (contest: Contest, database: string, ms: number): Promise<number> {
  await contest.query('CHECKPOINT', database)
  let placed = 0
  const took = await timed(() => Promise.all(Array.from({ length: 4 }, () => contest.session(async client => {
    for (const from = performance.now(); performance.now() - from < ms;) placed += (await placeAll(client, Array.from({ length: 128 }, newKey))).length
  }, database))))
  return placed / took * 1_000
}

function newKey (): Key {
  const key = crypto.randomUUID()
  return { customer: `customer-${parseInt(key.slice(0, 4), 16) % customers}`, key, fingerprint: 'aa'.repeat(32) }
}

async function twins (contest: Contest, database: string): Promise<boolean> {
  const key = newKey()
  const outcomes = await Promise.all(Array.from({ length: 32 }, () => place(contest, database, key)))
  return outcomes.filter(outcome => outcome === 'created').length === 1 && outcomes.filter(outcome => outcome === 'replayed').length === 31
}

/** Places one order after the other. */
function placeUntil (
  contest: Contest,
  database: string
): { stop: () => Promise<{ placed: number, retried: string[], failures: string[], longestMs: number }> } {
  const stopping = new AbortController()
  const done = contest.session(async client => {
    let [placed, longestMs] = [0, 0]
    const [retried, failures] = [new Set<string>(), new Set<string>()]
    while (!stopping.signal.aborted) {
      const ms = await timed(async () => {
        const key = newKey()
        const outcome = await placeOn(client, key).catch(async (error: pg.DatabaseError) => {
          // A batch that began before the swap and ended after it is rolled back; it is sent again, as by the intake.
          retried.add(String(error.code))
          return await placeOn(client, key).catch((error: Error) => error.message)
        })
        if (outcome === 'created') placed++
        else failures.add(String(outcome))
      })
      longestMs = Math.max(longestMs, ms)
    }
    return { placed, retried: [...retried], failures: [...failures], longestMs }
  }, database)
  return {
    stop: async () => {
      stopping.abort()
      return await done
    }
  }
}

async function run (client: pg.Client, statements: string[]): Promise<void> {
  for (const statement of statements) await client.query(statement)
}

async function timed (work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

async function check (what: string, holds: () => Promise<boolean>): Promise<string> {
  return `${await holds() ? '✓' : '✗'} ${what}`
}

function sizesTable (sizes: Record<Layout, Size[]>, orders: number): string {
  const total = (layout: Layout): number => sizes[layout].reduce((sum, { bytes }) => sum + bytes, 0)
  const lines = (['today', 'by month'] as const).flatMap(layout => [
    '', `  ${layout}`, ...sizes[layout].map(({ name, bytes }) => `    ${name.padEnd(40)} ${(bytes / orders).toFixed(1).padStart(7)}`), `    ${'together'.padEnd(40)} ${(total(layout) / orders).toFixed(1).padStart(7)}`
  ])
  return [`Bytes an order, of one line, without events, ${whole(orders)} stored`, ...lines, '', `By month they are ${times(total('by month') / total('today'))} today's.`, ''].join('\n')
}

function ratesTable (rates: Record<Layout, number[]>): string {
  const ratio = median(rates.today.map((today, round) => (rates['by month'][round] ?? NaN) / today))
  return [
    'Orders a second, in batches of 128, four at once; medians', '',
    ...(['today', 'by month'] as const).map(layout => `  ${layout.padEnd(10)}  ${whole(median(rates[layout])).padStart(8)}`), '',
    `By month: ${times(ratio)} the orders a second.`, ''
  ].join('\n')
}

function stepsTable (steps: readonly Step[]): string {
  return ['From today\'s layout to months, while orders come in', '', ...steps.map(({ what, ms, lock }) => `  ${what.padEnd(52)} ${whole(ms).padStart(8)} ms  ${lock}`)].join('\n')
}
