import type { Progress } from '../../verify/progress.ts'
import type { Contest } from './contest.ts'
import { whole } from './table.ts'

/** The customers of a filled database. One of them is a shop with one order in a hundred; the others share the rest evenly. */
export const customers = 10_000
export const bigCustomer = 'customer-0'

const chunk = 250_000
/** The span of time over which the orders were placed, by their ids and times. */
const spread = '365 days'

/** The fraction by which a database may exceed the asked number of orders before it is filled afresh. */
const excessMax = 0.1

/** Databases filled with orders, kept from round to round. */
export class FilledDatabases {
  readonly #contest: Contest
  readonly #progress: Progress
  readonly #names = new Map<number, string>()

  constructor (contest: Contest, progress: Progress) {
    this.#contest = contest
    this.#progress = progress
  }

  /** A database with that many orders, and the few that an earlier round placed. @returns its name */
  async holding (orders: number): Promise<string> {
    const filled = this.#names.get(orders)
    if (filled !== undefined) {
      if (await this.#contest.stored(filled) <= orders * (1 + excessMax)) return filled
      await this.#contest.dropDatabase(filled)
    }
    const database = await this.#contest.createDatabase('uniform')
    this.#names.set(orders, database)
    await fill(this.#contest, database, orders, stored => this.#progress.state(`filling: ${whole(stored)} of ${whole(orders)} orders`))
    this.#progress.line(`filled with ${whole(orders)} orders`)
    return database
  }

  async drop (): Promise<void> {
    for (const database of this.#names.values()) await this.#contest.dropDatabase(database)
    this.#names.clear()
  }
}

/**
 * Stores orders of one line each, placed evenly over a year, their events published, without going through the service.
 * Their indexes are made afterwards and everything is vacuumed, so that nothing is left to be done when this resolves.
 */
async function fill (contest: Contest, database: string, orders: number, onProgress: (stored: number) => void): Promise<void> {
  await contest.session(async client => {
    // The rows are generated consistently; checking each foreign key would take most of the time.
    await client.query("SET session_replication_role = 'replica'")
    await client.query("SET maintenance_work_mem = '1GB'")
    const { rows: indexes } = await client.query<{ name: string, definition: string }>(`
      SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
       WHERE indrelid IN ('orders'::regclass, 'order_items'::regclass, 'outbox'::regclass) AND NOT indisprimary`)
    for (const { name } of indexes) await client.query(`DROP INDEX ${name}`)
    for (let stored = 0; stored < orders; stored += chunk) {
      await client.query(insertOrders, [stored, Math.min(orders, stored + chunk) - 1, orders])
      onProgress(Math.min(orders, stored + chunk))
    }
    for (const { definition } of indexes) await client.query(definition)
    await client.query('VACUUM ANALYZE')
    await client.query('CHECKPOINT')
  }, database)
}

// Orders $1 to $2 of $3. The ids are PostgreSQL 18's own, for a time in the past; they sort like the service's.
const insertOrders = `
  WITH asked AS (
    SELECT n, (n - $3::bigint) * (interval '${spread}' / $3::bigint) AS ago,
           CASE WHEN n % 100 = 0 THEN '${bigCustomer}' ELSE 'customer-' || 1 + floor(random() * ${customers - 1})::integer END AS customer,
           floor(random() * 1000)::integer AS product
      FROM generate_series($1::bigint, $2::bigint) AS n
  ), placed AS (
    INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
    SELECT uuidv7(ago), customer, gen_random_uuid()::text, sha256(n::text::bytea), 'EUR', 100 + product, now() + ago FROM asked
    RETURNING id, total, created_at
  ), lines AS (
    INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
    SELECT id, 1, 'product-' || lpad((total - 100)::text, 4, '0'), 1, total FROM placed
  )
  INSERT INTO outbox (order_id, version, type, created_at, tx, available_at)
  SELECT id, 1, 'placed', created_at, (SELECT event_position()), NULL FROM placed`
