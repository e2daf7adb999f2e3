import { Prisma } from '#prisma'
import type { OrderStatus } from './order.ts'
import type { StoreClient } from './store.ts'

/** The identity of an event. */
export interface EventKey {
  orderId: string
  version: number
}

export interface DeadEvent extends EventKey {
  type: OrderStatus
  customer: string
  createdAt: Date
  deadAt: Date
  attempts: number
  reason: string | null
  /** Later events of its order, which wait for it. */
  waiting: number
}

/** Where a page ended. */
export interface DeadCursor extends EventKey {
  deadAt: Date
}

/** `waiting`: to be published, or on its way. */
export type EventState = 'waiting' | 'dead' | 'discarded' | 'published'

/** Selects the dead events that match every member given. */
export interface DeadFilter {
  type?: OrderStatus | undefined
  /** A part of the reason why the relay gave up. */
  reason?: string | undefined
}

/** Dead events, for operators. Each change is one statement, and repeating it changes nothing. */
export class DeadEvents {
  readonly #prisma: StoreClient

  constructor (prisma: StoreClient) {
    this.#prisma = prisma
  }

  /** The events that died first come first. */
  async list ({ type, reason, after, limit }: DeadFilter & { after?: DeadCursor | undefined, limit: number }): Promise<DeadEvent[]> {
    const later = after === undefined ? Prisma.empty : Prisma.sql`AND (event.dead_at, event.order_id, event.version) > (${after.deadAt.toISOString()}::timestamptz, ${after.orderId}::uuid, ${after.version})`
    return await this.#prisma.$queryRaw<DeadEvent[]>`
      SELECT event.order_id AS "orderId", event.version, event.type, o.customer, event.created_at AS "createdAt", event.dead_at AS "deadAt",
             event.attempts, event.last_error AS reason,
             (SELECT count(*) FROM outbox later WHERE later.order_id = event.order_id AND later.version > event.version)::integer AS waiting
        FROM outbox event LEFT JOIN orders o ON o.id = event.order_id
       WHERE ${matching({ type, reason })} ${later}
       ORDER BY event.dead_at, event.order_id, event.version
       LIMIT ${limit}`
  }

  /** Has the relay publish these events; the events behind them follow. @returns those that were dead */
  async revive (keys: EventKey[]): Promise<EventKey[]> {
    return await this.#prisma.$queryRaw<EventKey[]>`
      UPDATE outbox event SET ${revival}
        FROM unnest(${keys.map(({ orderId }) => orderId)}::uuid[], ${keys.map(({ version }) => version)}::integer[]) AS asked(order_id, version)
       WHERE event.order_id = asked.order_id AND event.version = asked.version AND event.dead_at IS NOT NULL
      RETURNING event.order_id AS "orderId", event.version`
  }

  /** @param before skips events that die again meanwhile, or a caller would never finish @returns how many it revived, at most `limit` */
  async reviveSome (filter: DeadFilter, before: Date, limit: number): Promise<number> {
    return await this.#prisma.$executeRaw`
      UPDATE outbox SET ${revival}
       WHERE (order_id, version) IN (
         SELECT event.order_id, event.version FROM outbox event
          WHERE ${matching(filter)} AND event.dead_at < ${before.toISOString()}::timestamptz
          ORDER BY event.dead_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)`
  }

  /** Never publishes these events; the events behind them go on. @returns those that were dead */
  async discard (keys: EventKey[]): Promise<EventKey[]> {
    return await this.#prisma.$queryRaw<EventKey[]>`
      SELECT order_id AS "orderId", version
        FROM discard_events(${keys.map(({ orderId }) => orderId)}::uuid[], ${keys.map(({ version }) => version)}::integer[])`
  }

  /** undefined: there is no such event. */
  async stateOf ({ orderId, version }: EventKey): Promise<EventState | undefined> {
    const [event] = await this.#prisma.$queryRaw<Array<{ state: EventState }>>`
      SELECT CASE WHEN event.dead_at IS NOT NULL THEN 'dead'
                  WHEN event.discarded_at IS NOT NULL THEN 'discarded'
                  WHEN event.available_at IS NOT NULL OR EXISTS (SELECT FROM outbox_leases lease WHERE lease.tx = event.tx) THEN 'waiting'
                  ELSE 'published' END AS state
        FROM outbox event WHERE event.order_id = ${orderId}::uuid AND event.version = ${version}`
    return event?.state
  }
}

const revival = Prisma.sql`dead_at = NULL, attempts = 0, available_at = now()`

function matching ({ type, reason }: DeadFilter): Prisma.Sql {
  return Prisma.sql`event.dead_at IS NOT NULL
    AND ${type === undefined ? Prisma.sql`true` : Prisma.sql`event.type = ${type}::order_status`}
    AND ${reason === undefined ? Prisma.sql`true` : Prisma.sql`strpos(event.last_error, ${reason}) > 0`}`
}
