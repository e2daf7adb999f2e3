import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import { createHmac, randomBytes } from 'node:crypto'
import type { PrismaClient } from '#prisma'
import type { Json } from './order.ts'
import type { OrderMessage, Publisher } from './publisher.ts'

/** A URL to which a customer wants the events of their orders. */
export interface WebhookEndpoint {
  /** UUIDv7. */
  id: string
  url: string
  createdAt: Date
}

/** failed: the last try failed. */
export const deliveryStates = ['pending', 'delivered', 'failed'] as const
export type DeliveryState = typeof deliveryStates[number]

/** One event for one endpoint. */
export interface Delivery {
  /** UUIDv7; the `webhook-id` of every try. */
  id: string
  orderId: string
  version: number
  type: string
  state: DeliveryState
  tries: number
  /** When the next try is due; null: there is none. */
  dueAt: Date | null
  /** The status of the endpoint's last answer. */
  lastStatus: number | null
  /** Why there was no answer. */
  lastError: string | null
  createdAt: Date
  deliveredAt: Date | null
}

/** A delivery that the caller has to make. */
export interface ClaimedDelivery {
  id: string
  endpointId: string
  url: string
  secret: string
  payload: Json
  /** Includes this one. */
  tries: number
}

/** The result of a try. */
export type Tried =
  | { state: 'delivered', status: number }
  | { state: 'pending', status: number | null, error: string | null, retryMs: number, isCounted: boolean }
  | { state: 'failed', status: number | null, error: string | null }

/** The most endpoints of a customer: each one multiplies the deliveries. */
export const endpointsMax = 10

/** The SQL of webhooks. Each write is one statement, as in store.ts. */
export class WebhookStore {
  readonly #prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>

  constructor (prisma: Pick<PrismaClient, '$queryRaw' | '$executeRaw'>) {
    this.#prisma = prisma
  }

  /** @returns undefined if the customer has `endpointsMax` already */
  async add (id: string, customer: string, url: string, secret: string): Promise<WebhookEndpoint | undefined> {
    const [endpoint] = await this.#prisma.$queryRaw<WebhookEndpoint[]>`
      INSERT INTO webhook_endpoints (id, customer, url, secret)
      SELECT ${id}::uuid, ${customer}, ${url}, ${secret} WHERE (SELECT count(*) FROM webhook_endpoints WHERE customer = ${customer}) < ${endpointsMax}::integer
      RETURNING id, url, created_at AS "createdAt"`
    return endpoint
  }

  /** The oldest first. */
  async ofCustomer (customer: string): Promise<WebhookEndpoint[]> {
    return await this.#prisma.$queryRaw<WebhookEndpoint[]>`SELECT id, url, created_at AS "createdAt" FROM webhook_endpoints WHERE customer = ${customer} ORDER BY id`
  }

  /** Deletes the endpoint with its deliveries. @returns whether there was one */
  async remove (id: string, customer: string): Promise<boolean> {
    return await this.#prisma.$executeRaw`DELETE FROM webhook_endpoints WHERE id = ${id}::uuid AND customer = ${customer}` > 0
  }

  /** Newest first; null if there is no such endpoint. `before` is the last id of the page before. */
  async deliveries (endpointId: string, customer: string, { before, limit }: { before?: string | undefined, limit: number }): Promise<Delivery[] | null> {
    const endpoints = await this.#prisma.$queryRaw<unknown[]>`SELECT id FROM webhook_endpoints WHERE id = ${endpointId}::uuid AND customer = ${customer}`
    if (endpoints.length === 0) return null
    return await this.#prisma.$queryRaw<Delivery[]>`
      SELECT id, order_id AS "orderId", version, payload->>'type' AS type, state, tries, due_at AS "dueAt", last_status AS "lastStatus", last_error AS "lastError",
             created_at AS "createdAt", delivered_at AS "deliveredAt"
        FROM webhook_deliveries
       WHERE endpoint_id = ${endpointId}::uuid AND id < ${before ?? afterAll}::uuid
       ORDER BY id DESC LIMIT ${limit}`
  }

  /** Repeats a delivery from the first try on, in any state, unless its first try is pending. @returns undefined if there is no such delivery */
  async replay (deliveryId: string, endpointId: string, customer: string): Promise<Delivery | undefined> {
    await this.#prisma.$executeRaw`
      UPDATE webhook_deliveries delivery SET state = 'pending', tries = 0, due_at = now(), last_status = NULL, last_error = NULL, delivered_at = NULL
        FROM webhook_endpoints endpoint
       WHERE delivery.id = ${deliveryId}::uuid AND endpoint.id = ${endpointId}::uuid AND endpoint.customer = ${customer} AND delivery.endpoint_id = endpoint.id
         AND (delivery.state <> 'pending' OR delivery.last_status IS NOT NULL OR delivery.last_error IS NOT NULL)`
    const [delivery] = await this.#prisma.$queryRaw<Delivery[]>`
      SELECT delivery.id, order_id AS "orderId", version, payload->>'type' AS type, state, tries, due_at AS "dueAt", last_status AS "lastStatus", last_error AS "lastError",
             delivery.created_at AS "createdAt", delivered_at AS "deliveredAt"
        FROM webhook_deliveries delivery JOIN webhook_endpoints endpoint ON endpoint.id = delivery.endpoint_id
       WHERE delivery.id = ${deliveryId}::uuid AND endpoint.id = ${endpointId}::uuid AND endpoint.customer = ${customer}`
    return delivery
  }

  async hasEndpoints (): Promise<boolean> {
    const rows = await this.#prisma.$queryRaw<unknown[]>`SELECT id FROM webhook_endpoints LIMIT 1`
    return rows.length > 0
  }

  /** Adds one delivery of each event for each endpoint of its customer, however often the event is published. @returns how many are new */
  async enqueue (messages: OrderMessage[]): Promise<number> {
    const events = messages.map(message => ({ orderId: message.orderId, version: message.version, customer: message.customer, payload: payloadOf(message) }))
    return await this.#prisma.$executeRaw`
      INSERT INTO webhook_deliveries (id, endpoint_id, order_id, version, payload)
      SELECT uuid_of_now(), endpoint.id, event."orderId", event.version, event.payload
        FROM jsonb_to_recordset(${JSON.stringify(events)}::jsonb) AS event("orderId" uuid, version integer, customer text, payload jsonb)
        JOIN webhook_endpoints endpoint ON endpoint.customer = event.customer
       ORDER BY event."orderId", event.version
      ON CONFLICT DO NOTHING`
  }

  /** Leases deliveries that are due for `leaseMs`; for one endpoint at most `perEndpoint`, including those `underWay`. */
  async claim (limit: number, perEndpoint: number, underWay: ReadonlyMap<string, number>, leaseMs: number): Promise<ClaimedDelivery[]> {
    return await this.#prisma.$queryRaw<ClaimedDelivery[]>`
      SELECT * FROM claim_deliveries(${limit}::integer, ${perEndpoint}::integer, ${[...underWay.keys()]}::uuid[], ${[...underWay.values()]}::integer[], ${leaseMs}::integer)`
  }

  /** Stores the result of a try. It changes nothing if the delivery was replayed since the claim. */
  async settle ({ id, tries }: ClaimedDelivery, tried: Tried): Promise<void> {
    const { state } = tried
    const retryMs = state === 'pending' ? tried.retryMs : null
    await this.#prisma.$executeRaw`
      UPDATE webhook_deliveries
         SET state = ${state}, last_status = ${tried.status}::integer, last_error = ${state === 'delivered' ? null : tried.error},
             due_at = now() + ${retryMs}::integer * interval '1 ms', delivered_at = CASE WHEN ${state === 'delivered'} THEN now() END,
             tries = tries - ${state === 'pending' && !tried.isCounted ? 1 : 0}::integer
       WHERE id = ${id}::uuid AND tries = ${tries}::integer`
  }
}

/** Queues deliveries to the customers' own systems, then publishes as before. An event that is published again makes no second delivery. */
export function withWebhooks (publisher: Publisher, { store, hasEndpoints, onQueued }: { store: Pick<WebhookStore, 'enqueue'>, hasEndpoints: () => Promise<boolean>, onQueued: () => void }): Publisher {
  return {
    ...publisher.connect && { connect: async (signal: AbortSignal) => { await publisher.connect?.(signal) } },
    ...publisher.health && { health: () => publisher.health?.() },
    ...publisher.close && { close: async () => { await publisher.close?.() } },
    async publish (messages, signal) {
      // One query answers for all events of a second, so it is a part of no event's trace.
      if (await context.with(ROOT_CONTEXT, hasEndpoints) && await store.enqueue(messages) > 0) onQueued()
      return await publisher.publish(messages, signal)
    }
  }
}

/** A secret in the form of the Standard Webhooks specification: whsec_ and base64 of 24 to 64 bytes. */
export function newSecret (): string {
  return `whsec_${randomBytes(32).toString('base64')}`
}

/** The headers of a try, by the Standard Webhooks specification. @param at ms since 1970 */
export function signedHeaders (id: string, secret: string, body: string, at: number): Record<string, string> {
  const timestamp = String(Math.floor(at / 1_000))
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` }
}

const afterAll = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

function payloadOf ({ traceparent: _, ...message }: OrderMessage) {
  return { type: `order.${message.type}`, timestamp: message.at, data: message }
}
