import { Prisma, type PrismaClient } from '#prisma'
import { firstUuidAt } from '../commit/uuidv7.ts'
import type { DatabaseFunctions } from '../prisma/database-functions.ts'
import { recordedTraceparent } from '../tracing/trace-context.ts'
import { transitions } from './order.ts'
import { itemsOf, transitionedOf, type StoredItem, type StoredTransition } from './stored.ts'
import type { Failed } from '../outbox/relay.ts'
import type { Order, OrderEvent, OrderEventType, OrderStatus, Placement, Transition, Transitioned } from './order.ts'
import type { PendingOrder } from './intake.ts'
import type { ClaimedEvent } from './relay.ts'

/** The part of the Prisma client that the store needs; an extended client has it too. */
export type StoreClient = Pick<PrismaClient, '$queryRaw' | '$executeRaw' | 'order' | 'outbox'>

export interface OrderSearch {
  /** null: of everybody. */
  customer: string | null
  reference?: string | undefined
  status?: OrderStatus | undefined
  from?: number | undefined
  to?: number | undefined
  before?: string | undefined
  limit: number
}

/** A position in the events: the reader has everything up to here. */
export interface FeedCursor {
  /** The event's position: epoch * 2^48 + transaction id. */
  tx: bigint
  orderId: string
  version: number
  /** When the epoch began in which the cursor was given; it may be later than the event's. Another history may have an epoch with the same number. */
  began: number
}

/** The database's knowledge about a cursor. */
export interface FeedStanding {
  /** The current epoch; below `reach` all of its transactions have ended. */
  current: { epoch: bigint, began: number, horizon: bigint, reach: bigint }
  /** The epoch in which the cursor was given; undefined if it is not of this history. */
  given: { epoch: bigint, horizon: bigint } | undefined
}

export interface FeedEvent {
  cursor: FeedCursor
  event: OrderEvent
}

/** The SQL of orders and events, in addition to the functions in prisma/migrations. Every write is one statement, and so one commit. */
export class OrderStore {
  readonly #prisma: StoreClient
  readonly #functions: DatabaseFunctions

  constructor (prisma: StoreClient, functions: DatabaseFunctions) {
    this.#prisma = prisma
    this.#functions = functions
  }

  /**
   * Places the batch in one commit. Each (customer, key) may be in it only once.
   *
   * @param leaseMs how long the caller leases the events of the new orders, to publish them and settle them by `settleOwn()`;
   *   0: any relay may claim them at once
   */
  async place (batch: PendingOrder[], leaseMs = 0): Promise<Placement[]> {
    const asked = JSON.stringify(columnsOf(batch))
    const placed = await this.#functions.callPrepared<PlacedBatch>('place_orders', Prisma.sql`${asked}::json, ${leaseMs}::integer`)
    if (placed.outcomes.length !== batch.length) throw new Error('place_orders did not say what became of each order. Whether they were placed is unknown')
    return placementsOf(batch, placed)
  }

  /**
   * Moves an order on. It never calls the gateway: only orders/cashier.ts does.
   *
   * @param customer whose order it must be; null for anyone's
   * @param leaseMs how long the caller leases a payment that it has to capture
   */
  async transition (transition: Transition, orderId: string, customer: string | null, expectedVersions: number[] | null, leaseMs = 0): Promise<Transitioned> {
    const { from, to } = transitions[transition]
    return transitionedOf(await this.#functions.callPrepared<StoredTransition>('move_order', Prisma.sql`
      ${orderId}::uuid, ${customer}, ${from}::order_status[], ${to}::order_status, ${expectedVersions}::integer[], ${leaseMs}::integer, ${recordedTraceparent()}`))
  }

  async find (id: string, customer: string | null): Promise<Order | null> {
    return await this.#prisma.order.findFirst({ where: { id, ...customer !== null && { customer } }, ...orderFields })
  }

  /**
   * Newest first: ids are UUIDv7 and sort by time. `before` is the last id of the page before.
   *
   * An order's id contains its createdAt (orders/intake.ts), on every instance and with every clock. So the times from `from` to
   * before `to`, in ms, are a range of ids, and every index that ends in the id finds them.
   *
   * One condition leads: Postgres reads its index over the range of the page, and filters the rows by the others. `= ANY` and a
   * sort by both columns enforce this, because only that index sorts so. With `=` the planner would scan the newest orders of all
   * customers for a rare value, and if its orders are old, it would read the whole table.
   */
  async list ({ customer, reference, status, from, to, before, limit }: OrderSearch): Promise<Order[]> {
    const ends = [...to !== undefined ? [firstUuidAt(to)] : [], ...before !== undefined ? [before] : []]
    const [lead, ...others] = [
      // The planner uses the partial index only if its condition is in the query.
      ...reference !== undefined ? [{ column: Prisma.sql`o.reference`, condition: Prisma.sql`o.reference IS NOT NULL AND o.reference = ANY (${[reference]}::text[])` }] : [],
      ...customer !== null ? [{ column: Prisma.sql`o.customer`, condition: Prisma.sql`o.customer = ANY (${[customer]}::text[])` }] : [],
      ...status !== undefined ? [{ column: Prisma.sql`o.status`, condition: Prisma.sql`o.status = ANY (${[status]}::order_status[])` }] : []
    ]
    const conditions = Prisma.join([
      Prisma.sql`o.id >= ${from === undefined ? nil : firstUuidAt(from)}::uuid AND o.id < ${ends.sort()[0] ?? afterAll}::uuid`,
      ...[...lead === undefined ? [] : [lead], ...others].map(({ condition }) => condition)
    ], ' AND ')
    const rows = await this.#prisma.$queryRaw<ListedRow[]>`
      SELECT o.id, o.customer, o.status, o.currency, o.total, o.reference, o.version, o.created_at AS "createdAt",
             (SELECT jsonb_agg(jsonb_build_object('sku', item.sku, 'quantity', item.quantity, 'unitPrice', item.unit_price) ORDER BY item.position)
                FROM order_items item WHERE item.order_id = o.id) AS items
        FROM orders o
       WHERE ${conditions}
       ORDER BY ${lead === undefined ? Prisma.empty : Prisma.sql`${lead.column} DESC,`} o.id DESC
       LIMIT ${limit}`
    return rows.map(({ items, ...order }) => ({ ...order, items: itemsOf(items) }))
  }

  /** The events of an order, in order, and whether they are complete (see retention.ts); null if there is no such order. */
  async history (
    id: string,
    customer: string | null
  ): Promise<{ events: Array<{ version: number, type: OrderEventType, at: Date }>, complete: boolean } | null> {
    const order = await this.#prisma.order.findFirst({ where: { id, ...customer !== null && { customer } }, select: { version: true } })
    if (order === null) return null
    const events = await this.#prisma.$queryRaw<Array<{ version: number, type: OrderEventType, at: Date }>>`
      SELECT version, coalesce(event, type::text) AS type, created_at AS at FROM outbox WHERE order_id = ${id}::uuid ORDER BY version`
    return { events, complete: events[0]?.version === 1 && events.length >= order.version }
  }

  /**
   * Leases events to publish for `leaseMs`: no other relay gets them before that is over.
   * It leases only the first unpublished event of an order, so each order's events go out in order. The events behind it are held:
   * no claim sees them (prisma/migrations/*_dead_events). A claim that meets one that is not held yet holds it.
   */
  async claimEvents (limit: number, leaseMs: number): Promise<ClaimedEvent[]> {
    for (;;) {
      const taken = await this.#prisma.$queryRaw<Array<ClaimedEvent & { isBehind: boolean }>>`SELECT * FROM claim_order_events(${limit}::integer, ${leaseMs}::integer)`
      const behind = taken.filter(({ isBehind }) => isBehind)
      if (behind.length > 0) {
        await this.#prisma.$queryRaw`SELECT FROM hold_followers(${behind.map(event => event.orderId)}::uuid[], ${behind.map(event => event.version)}::integer[])`
      }
      // If all were behind others, events that can be published may follow them.
      if (behind.length < taken.length || taken.length === 0) return taken.flatMap(({ isBehind, ...event }) => isBehind ? [] : [event])
    }
  }

  /** Stores the results of claimed events. */
  async settleEvents (published: ClaimedEvent[], failed: Array<Failed<ClaimedEvent>>): Promise<void> {
    if (published.length > 0) {
      await this.#prisma.$queryRaw`
        SELECT FROM mark_published(${published.map(event => event.orderId)}::uuid[], ${published.map(event => event.version)}::integer[])`
    }
    if (failed.length > 0) {
      await this.#prisma.$executeRaw`${failuresWritten(failed)} AND outbox.available_at IS NOT NULL`
    }
  }

  /** Ends the leases of these transactions: their events were published, except the failed ones. */
  async settleOwn (txs: bigint[], failed: Array<Failed<ClaimedEvent>>): Promise<void> {
    await this.#prisma.$executeRaw`
      WITH ended AS (DELETE FROM outbox_leases WHERE tx = ANY (${txs}::bigint[]) RETURNING tx)
      ${failuresWritten(failed)} AND outbox.tx = ANY (ARRAY(SELECT tx FROM ended))`
  }

  /** Ends the leases of transactions whose events were not tried: any relay may claim them at once. */
  async releaseOwn (txs: bigint[]): Promise<void> {
    await this.#prisma.$executeRaw`
      WITH ended AS (DELETE FROM outbox_leases WHERE tx = ANY (${txs}::bigint[]) RETURNING tx)
      UPDATE outbox SET available_at = now(), attempts = 0 WHERE tx = ANY (ARRAY(SELECT tx FROM ended))`
  }

  /** Ends the expired leases: any relay may claim the events that a process did not publish in time. */
  async endExpiredLeases (): Promise<void> {
    await this.#prisma.$executeRaw`
      WITH ended AS (DELETE FROM outbox_leases WHERE expires_at <= now() RETURNING tx)
      UPDATE outbox SET available_at = now() WHERE tx = ANY (ARRAY(SELECT tx FROM ended))`
  }

  /** Counts unpublished and dead events, each up to a hundred thousand, because every instance asks and an outage makes the backlog large. */
  async outboxBacklog (): Promise<{ pending: number, dead: number }> {
    const [counts] = await this.#prisma.$queryRaw<Array<{ pending: number, dead: number }>>`
      SELECT (SELECT count(*) FROM (SELECT FROM outbox WHERE available_at IS NOT NULL AND dead_at IS NULL LIMIT 100000) waiting)::float8
             + (SELECT count(*) FROM outbox WHERE tx = ANY (ARRAY(SELECT tx FROM outbox_leases)))::float8 AS pending,
             (SELECT count(*) FROM (SELECT FROM outbox WHERE dead_at IS NOT NULL LIMIT 100000) dead)::float8 AS dead`
    return counts ?? { pending: 0, dead: 0 }
  }

  /** The age of the next event that a claim would take; 0 if none waits. */
  async oldestEventAgeS (): Promise<number> {
    const [oldest] = await this.#prisma.$queryRaw<Array<{ age: number }>>`
      SELECT extract(epoch FROM now() - created_at)::float8 AS age FROM outbox
       WHERE dead_at IS NULL AND available_at < 'infinity' ORDER BY available_at LIMIT 1`
    return Math.max(0, oldest?.age ?? 0)
  }

  /** The position of a reader that wants only events from now on. */
  async feedHorizon (): Promise<FeedCursor> {
    const [row] = await this.#prisma.$queryRaw<HorizonRow[]>`SELECT horizon, began FROM feed_horizon(${oldestRunning})`
    if (row === undefined) throw new Error('feed_horizon did not say how far the events may be read')
    return startOf(row.horizon, Number(row.began))
  }

  /** Looks up the epoch in which a cursor was given. */
  async feedStanding ({ began }: FeedCursor): Promise<FeedStanding> {
    const [row] = await this.#prisma.$queryRaw<StandingRow[]>`
      SELECT current.epoch, current.began, current.horizon, ${oldestRunning} AS oldest, given.epoch AS "givenEpoch", given.horizon AS "givenHorizon"
        FROM feed_horizon(${oldestRunning}) current LEFT JOIN epochs given ON given.began = ${began}`
    if (row === undefined) throw new Error('feed_horizon did not say how far the events may be read')
    const { horizon, oldest, givenEpoch, givenHorizon } = row
    const epoch = BigInt(row.epoch)
    return {
      current: { epoch, began: Number(row.began), horizon, reach: startOfEpoch(epoch) + oldest },
      given: givenEpoch === null || givenHorizon === null ? undefined : { epoch: BigInt(givenEpoch), horizon: givenHorizon }
    }
  }

  /**
   * The next events of these customers (null: of everybody), and the cursor to go on from, with the current epoch. Transactions commit
   * in another order than they begin. So the feed reads events only below the oldest transaction still running, and none can appear
   * behind the cursor.
   *
   * @returns also whether events after `after` may have been pruned
   */
  async feed (customers: string[] | null, after: FeedCursor, limit: number): Promise<{ events: FeedEvent[], next: FeedCursor, mayLack: boolean }> {
    const rows = await this.#prisma.$queryRaw<FeedRow[]>`
      WITH current AS MATERIALIZED (SELECT *, ${after.tx} < (SELECT pruned_below FROM outbox_retention) AS may_lack FROM feed_horizon(${oldestRunning}))
      SELECT current.horizon, current.began, current.may_lack AS "mayLack", event.tx, event.order_id AS "orderId", event.version, coalesce(event.event, event.type::text) AS type, event.detail, event.created_at AS "at",
             event.customer, event.currency, event.total
        FROM current LEFT JOIN LATERAL (
          SELECT outbox.*, o.customer, o.currency, o.total
            FROM outbox JOIN orders o ON o.id = outbox.order_id
           WHERE (outbox.tx, outbox.order_id, outbox.version) > (${after.tx}, ${after.orderId}::uuid, ${after.version})
             AND outbox.tx < current.horizon
             ${customers === null ? Prisma.empty : Prisma.sql`AND o.customer = ANY (${customers})`}
           ORDER BY outbox.tx, outbox.order_id, outbox.version
           LIMIT ${limit}
        ) event ON true`
    const [current] = rows
    if (current === undefined) throw new Error('feed_horizon did not say how far the events may be read')
    const began = Number(current.began)
    const events = rows.flatMap(({ horizon: _, began: __, mayLack: ___, tx, ...event }) => tx === null
      ? []
      : [{ cursor: { tx, orderId: event.orderId, version: event.version, began }, event }])
    const last = events.at(-1)
    // If there is no event, the horizon may be behind the cursor; the cursor never goes back.
    const next = events.length === limit && last !== undefined
      ? last.cursor
      : current.horizon < after.tx ? { ...after, began } : startOf(current.horizon, began)
    return { events, next, mayLack: current.mayLack ?? false }
  }
}

/** What `place_orders` returns. Its numbers are exact: no total is above 2⁵³ − 1. */
interface PlacedBatch {
  outcomes: Array<Placement['outcome']>
  totals: number[]
  skus: Array<string | null>
  /** One for each line of the batch. */
  unitPrices: Array<number | null>
  /** The position of the events. */
  tx: string
  /** Stored ids; null if nothing was replayed. */
  ids: string[] | null
  createdAt: string[] | null
}

type ListedRow = Omit<Order, 'items'> & { items: StoredItem[] | null }

interface HorizonRow {
  horizon: bigint
  began: bigint
}

interface StandingRow {
  epoch: number
  began: bigint
  horizon: bigint
  oldest: bigint
  givenEpoch: number | null
  givenHorizon: bigint | null
}

interface FeedRow extends OrderEvent, HorizonRow {
  mayLack: boolean | null
  tx: bigint | null
}

const orderFields = {
  select: {
    id: true,
    customer: true,
    status: true,
    currency: true,
    total: true,
    reference: true,
    version: true,
    createdAt: true,
    items: { select: { sku: true, quantity: true, unitPrice: true }, orderBy: { position: 'asc' } }
  }
} as const

const nil = '00000000-0000-0000-0000-000000000000'
/** Sorts after every UUIDv7. */
const afterAll = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

/** The oldest running transaction in the snapshot of the statement that contains it. */
const oldestRunning = Prisma.sql`(pg_snapshot_xmin(pg_current_snapshot())::text)::bigint`

/** The lower bits of a position hold the transaction id, the upper ones the epoch. */
const epochBits = 48n

export function epochOf (tx: bigint): bigint {
  return tx >> epochBits
}

export function startOfEpoch (epoch: bigint): bigint {
  return epoch << epochBits
}

/** The cursor before all events of this position. */
export function startOf (tx: bigint, began: number): FeedCursor {
  return { tx, orderId: nil, version: 0, began }
}

/** The UPDATE that stores why events were not published. The caller appends AND, with the rows that it may still write. */
function failuresWritten (failed: Array<Failed<ClaimedEvent>>): Prisma.Sql {
  return Prisma.sql`
    UPDATE outbox
       SET last_error = failed.error,
           attempts = outbox.attempts - CASE WHEN failed.is_counted THEN 0 ELSE 1 END,
           dead_at = CASE WHEN failed.retry_in_ms IS NULL THEN now() END,
           available_at = now() + coalesce(failed.retry_in_ms, 0) * interval '1 ms'
      FROM unnest(${failed.map(({ event }) => event.orderId)}::uuid[], ${failed.map(({ event }) => event.version)}::integer[],
                  ${failed.map(({ error }) => error)}::text[], ${failed.map(({ retryInMs }) => retryInMs)}::integer[],
                  ${failed.map(({ isCounted }) => isCounted)}::boolean[])
           AS failed(order_id, version, error, retry_in_ms, is_counted)
     WHERE outbox.order_id = failed.order_id AND outbox.version = failed.version`
}

/** What `place_orders` takes. */
function columnsOf (batch: PendingOrder[]) {
  const lines = batch.flatMap(({ items }, index) => items.map((item, place) => ({ ...item, order: index + 1, position: place + 1 })))
  return {
    ids: batch.map(({ id }) => id),
    customers: batch.map(({ customer }) => customer),
    keys: batch.map(({ idempotencyKey }) => idempotencyKey),
    fingerprints: batch.map(({ fingerprint }) => fingerprint),
    currencies: batch.map(({ currency }) => currency),
    references: batch.map(({ reference }) => reference),
    // Usually no trace is sampled, so the column is absent.
    traces: batch.some(({ traceparent }) => traceparent !== undefined) ? batch.map(({ traceparent }) => traceparent ?? null) : undefined,
    // Absent if no request has an expected total.
    expectedTotals: batch.some(({ expectedTotal }) => expectedTotal !== undefined) ? batch.map(({ expectedTotal }) => expectedTotal ?? null) : undefined,
    createdAt: batch.map(({ createdAt }) => createdAt),
    lineOrders: lines.map(({ order }) => order),
    linePositions: lines.map(({ position }) => position),
    lineSkus: lines.map(({ sku }) => sku),
    lineQuantities: lines.map(({ quantity }) => quantity)
  }
}

function placementsOf (batch: PendingOrder[], placed: PlacedBatch): Placement[] {
  const tx = BigInt(placed.tx)
  let line = 0
  return batch.map((order, place) => {
    const firstLine = line
    line += order.items.length
    return placementOf(order, placed, tx, place, firstLine)
  })
}

function placementOf (pending: PendingOrder, placed: PlacedBatch, tx: bigint, place: number, firstLine: number): Placement {
  const outcome = elementOf(placed.outcomes, place)
  switch (outcome) {
    case 'created':
      return { outcome, order: orderOf(pending, placed, place, firstLine), tx, traceparent: pending.traceparent }
    case 'replayed': {
      const first = { ...pending, id: elementOf(placed.ids, place), createdAt: new Date(elementOf(placed.createdAt, place)) }
      return { outcome, order: orderOf(first, placed, place, firstLine) }
    }
    case 'unknown-product':
    case 'out-of-stock':
      return { outcome, sku: elementOf(placed.skus, place) }
    case 'price-changed':
      return { outcome, total: BigInt(elementOf(placed.totals, place)) }
    default:
      return { outcome }
  }
}

/** A replay has the fingerprint of the first request, and so the same items. Only their prices come from the database. */
function orderOf (order: PendingOrder, placed: PlacedBatch, place: number, firstLine: number): Order {
  return {
    id: order.id,
    customer: order.customer,
    status: 'placed',
    currency: order.currency,
    items: order.items.map(({ sku, quantity }, index) => ({ sku, quantity, unitPrice: BigInt(elementOf(placed.unitPrices, firstLine + index)) })),
    total: BigInt(elementOf(placed.totals, place)),
    reference: order.reference,
    version: 1,
    createdAt: order.createdAt
  }
}

function elementOf<T> (list: ReadonlyArray<T | null> | null, place: number): T {
  const element = list?.[place]
  if (element == null) throw new Error('place_orders left out a part of an outcome. Whether the orders were placed is unknown')
  return element
}
