import { join } from 'node:path'
import { signToken } from '../auth/local-token.ts'
import { migrate } from '../prisma/migrate.ts'
import { findBinaries } from '../postgres/binaries.ts'
import { pagesFrom } from '../verify/postgres/pages.ts'
import { withClient } from '../postgres/with-client.ts'
import type { RefundAnswered } from '../verify/history.ts'
import type { Answer, Command, Delivery, EventStored, Operation, OrderAnswered, OrderStored, PaymentStored, RefundStored, Request, Snapshot, StopReport, Target, Understood } from '../verify/target.ts'

/** A secret that protects only a service of the harness. */
export const secret = 'known to everybody, and good for a run of verify only'

/** The same command as in `npm start` and the image; test/image-layout.long.ts compares the three. */
export const node = [process.execPath, '--min-semi-space-size=64', '--no-allocation-site-pretenuring'] as const

interface Place {
  readonly databaseUrl: string
  readonly port: number
  readonly opsPort: number
}

/** Starts the service as in production, with these environment variables in addition to those that it needs. */
export function inProduction ({ databaseUrl, port, opsPort }: Place, settings: Command['env']): Command {
  return {
    command: [...node, join(import.meta.dirname, '../server.ts')],
    env: { NODE_ENV: 'production', ALLOW_IN_PRODUCTION: 'known-secrets', DATABASE_URL: databaseUrl, AUTH_JWT_SECRET: secret, PORT: String(port), OPS_PORT: String(opsPort), ...settings }
  }
}

/** The order service of this repository. */
const orderService: Target = {
  name: 'order-service',
  postgres: { binaries: findBinaries },
  // A start takes a second; on a busy machine, in one of a thousand starts, much longer.
  limits: { start: 120_000 },

  async prepare ({ directDatabaseUrl, products }) {
    await migrate({ url: directDatabaseUrl })
    await withClient(directDatabaseUrl, async client => {
      await client.query(`
        INSERT INTO products (sku, name, unit_price, currency, stock)
        SELECT sku, name, "unitPrice", currency, stock
        FROM jsonb_to_recordset($1) AS product (sku text, name text, "unitPrice" bigint, currency text, stock bigint)`, [JSON.stringify(products)])
    })
  },

  start: ({ directory, databaseUrl, eventsUrl, gateway }, { port, opsPort, balanced, agentPort }) => ({
    ...inProduction({ databaseUrl, port, opsPort }, {
      ...eventsUrl !== undefined && { EVENTS_URL: eventsUrl },
      ...gateway !== undefined && {
        PAYMENTS_URL: gateway.url,
        PAYMENTS_TOKEN: gateway.token,
        PAYMENTS_NOTIFY_SECRET: gateway.notifySecret,
        // Short, so that open payments are frequent and settled soon: a lease lasts as long as two requests and a call.
        PAYMENTS_TIMEOUT_MS: '1500',
        REQUEST_TIMEOUT_MS: '5000'
      },
      // The load does not expect the service to cancel unpaid orders.
      ORDER_EXPIRY_MS: '0',
      ...agentPort !== undefined && { AGENT_PORT: String(agentPort) },
      DRAIN_MIN_MS: balanced ? '1000' : '0',
      DRAIN_QUIET_MS: balanced ? '500' : '0',
      DRAIN_MAX_MS: balanced ? '5000' : '0'
    }),
    // A folder without a .env that could change what is tested.
    cwd: directory
  }),

  readiness: '/readyz',
  phases: phasesIn,
  report: reportIn,
  request: requestFor,
  understand,

  stream: {
    request: customer => ({ method: 'GET', path: '/orders/stream', headers: { ...authorization(customer), accept: 'text/event-stream' } }),
    understand (data) {
      const { orderId, version, type } = JSON.parse(data) as { orderId: string, version: number, type: string }
      return { orderId, version, type }
    }
  },

  hostile: {
    large: { method: 'GET', path: '/openapi.json', headers: {} },
    past: { method: 'GET', path: '/orders/stream', headers: { ...authorization('staff', { staff: true }), 'last-event-id': '1.00000000-0000-0000-0000-000000000000.0' } }
  },

  gateway: { notifications: '/payments/notifications' },

  // The body is a batch of CloudEvents.
  consumer: { understand: body => (JSON.parse(body) as Array<{ data: Delivery }>).map(({ data: { orderId, version, type } }) => ({ orderId, version, type })) },

  snapshot: ({ directDatabaseUrl }) => readAll(directDatabaseUrl),

  // Written out and not imported: the code under test may be wrong.
  transitions: { placed: ['paid', 'cancelled'], paid: ['shipped', 'cancelled'], shipped: ['delivered'], delivered: [], cancelled: [] },
  features: ['reference', 'replayed', 'etag', 'if-match', 'location', 'item-order', 'own-orders', 'own-keys', 'staff', 'request-id', 'report']
}

export default orderService

function requestFor (operation: Operation): Request {
  const headers = authorization(operation.customer, { staff: isStaffs(operation), refunds: operation.kind === 'refund' })
  switch (operation.kind) {
    case 'place': return {
      method: 'POST',
      path: '/orders',
      headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': operation.key },
      body: JSON.stringify(operation.order)
    }
    case 'pay':
    case 'ship':
    case 'deliver':
    case 'cancel': {
      const { id, kind, ifMatch } = operation
      // A client without the outcome of a payment asks for it again, or pays again.
      const asks = kind === 'pay' && Number.parseInt(id.at(-1) ?? '', 16) % 2 === 0
      return { method: 'POST', path: `/orders/${id}/${kind}`, headers: { ...headers, ...ifMatch !== undefined && { 'if-match': ifMatch }, ...asks && { prefer: 'respond-async' } } }
    }
    case 'refund': {
      const { id, key, amount } = operation
      return {
        method: 'POST',
        path: `/orders/${id}/refunds`,
        headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ ...amount !== undefined && { amount }, reason: 'verify' })
      }
    }
    case 'read': return { method: 'GET', path: `/orders/${operation.id}`, headers }
    case 'list': return { method: 'GET', path: `/orders?limit=50${operation.cursor === undefined ? '' : `&cursor=${operation.cursor}`}`, headers }
    case 'product': return { method: 'GET', path: `/products/${operation.sku}`, headers }
    case 'price':
    case 'stock': {
      const { sku, name, currency, unitPrice } = operation
      const set = operation.kind === 'stock'
      return {
        method: 'PUT',
        path: `/products/${sku}`,
        headers: { ...headers, 'content-type': 'application/json', ...set && { 'if-match': operation.ifMatch } },
        body: JSON.stringify({ name, currency, unitPrice, ...set && { stock: operation.stock } })
      }
    }
    case 'restock': {
      const { sku, key, delta } = operation
      return {
        method: 'POST',
        path: `/products/${sku}/stock`,
        headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ delta, reason: 'verify' })
      }
    }
  }
}

function authorization (customer: string, rights: { readonly staff?: boolean, readonly refunds?: boolean } = {}): Record<string, string> {
  return { authorization: `Bearer ${signToken({ secret, sub: customer, ...rights })}` }
}

/** The sender of changes of the catalogue, who must be staff. */
function isStaffs (operation: Operation): boolean {
  return ['product', 'price', 'stock', 'restock'].includes(operation.kind) || ('staff' in operation && operation.staff === true)
}

/**
 * A 2xx is `ok`, except a 202 to a transition, which says where to ask. A 4xx stored nothing, nor did the 503 that says so. Any
 * other 5xx may come from anywhere between the client and the commit.
 */
function understand (operation: Operation, { status, headers, body }: Answer): Understood {
  const content = parsed(body)
  const requestId = text(headers['x-request-id'])
  const named = { ...requestId !== undefined && { requestId } }
  if (status < 200 || status >= 300) {
    const problem = problemOf(content) ?? `http-${status}`
    return { type: status < 500 || problem === 'not-started' ? 'fail' : 'info', problem, ...named }
  }
  const replayed = headers['idempotent-replayed'] === 'true'
  const [etag, location] = [text(headers.etag), text(headers.location)]
  const happened = { type: 'ok', ...named, ...replayed && { replayed }, ...etag !== undefined && { etag }, ...location !== undefined && { location } } as const
  switch (operation.kind) {
    case 'refund': {
      const { id, state, amount } = content as RefundAnswered
      return { ...happened, refund: { id, state, amount } }
    }
    case 'list': {
      const { orders, next } = content as { orders: OrderAnswered[], next: string | null }
      return { ...happened, orders: orders.map(answered), ...next !== null && { next } }
    }
    case 'restock': return happened
    case 'product':
    case 'price':
    case 'stock': {
      const { sku, unitPrice, stock } = content as { sku: string, unitPrice: number, stock: number }
      return { ...happened, product: { sku, unitPrice, stock } }
    }
    default: {
      if (status !== 202) return { ...happened, order: answered(content as OrderAnswered) }
      const { payment: { id, state } } = content as { payment: { id: string, state: string } }
      return { ...happened, type: 'info', payment: { id, state } }
    }
  }
}

/** The order without fields that were not requested. */
function answered ({ id, status, version, currency, items, total, reference, customer, createdAt }: OrderAnswered): OrderAnswered {
  return { id, status, version, currency, items, total, reference, ...customer !== undefined && { customer }, ...createdAt !== undefined && { createdAt } }
}

function text (header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : undefined
}

/** The end of the problem's type (RFC 9457). */
function problemOf (content: unknown): string | undefined {
  const type = (content as { type?: unknown } | undefined)?.type
  return typeof type === 'string' ? type.split('/').at(-1) : undefined
}

/** undefined if it is not JSON, such as a balancer's own answer. */
function parsed (body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

interface Report {
  readonly startedAt: string
  readonly exitCode: number | null
  readonly phases: Record<'draining' | 'closing' | 'closed', number | null>
  readonly requests?: StopReport['requests']
}

/** Read from the report in the last line of the log. */
function phasesIn (log: string): ReturnType<NonNullable<Target['phases']>> {
  const { draining = null, closing = null, closed = null } = lastReport(log)?.phases ?? {}
  return draining === null || closing === null || closed === null ? undefined : { draining, closing, closed }
}

function reportIn (log: string): StopReport | undefined {
  const report = lastReport(log)
  if (report?.requests === undefined) return undefined
  const { startedAt, exitCode, requests: { completed, refused, unstarted, stalled, abandoned } } = report
  return { startedAt: Date.parse(startedAt), exitCode, requests: { completed, refused, unstarted, stalled, abandoned } }
}

function lastReport (log: string): Report | undefined {
  const { drain } = (parsed(log.trimEnd().split('\n').at(-1) ?? '') ?? {}) as { drain?: Report }
  return drain
}

/** pg returns a bigint as text and a float8 as a number. The number is exact here: checks of the schema keep totals and stock below 2^53. */
async function * readAll (url: string): AsyncGenerator<Partial<Snapshot>> {
  yield * pagesFrom(url, async function * (pages) {
    for await (const orders of pages<OrderStored>(`
      SELECT id, customer, idempotency_key AS key, status, version, currency, total::float8 AS total, reference, (
        SELECT coalesce(json_agg(json_build_object('sku', sku, 'quantity', quantity, 'unitPrice', unit_price) ORDER BY position), '[]')
        FROM order_items WHERE order_id = orders.id
      ) AS items
      FROM orders ORDER BY id`)) yield { orders }
    for await (const products of pages<{ sku: string, available: number }>('SELECT sku, stock::float8 AS available FROM products ORDER BY sku')) yield { products }
    for await (const events of pages<Omit<EventStored, 'event'> & { event: string | null }>(`
      SELECT order_id AS "orderId", version, type, event,
             available_at IS NULL AND NOT EXISTS (SELECT FROM outbox_leases lease WHERE lease.tx = outbox.tx) AS delivered
      FROM outbox ORDER BY order_id, version, tx`)) yield { events: events.map(({ event, ...rest }) => ({ ...rest, ...event !== null && { event } })) }
    for await (const payments of pages<PaymentStored>(`
      SELECT id, order_id AS "orderId", amount::float8 AS amount, currency, state FROM payments ORDER BY id`)) yield { payments }
    for await (const refunds of pages<RefundStored>(`
      SELECT id, payment_id AS "paymentId", order_id AS "orderId", amount::float8 AS amount, currency, state FROM refunds ORDER BY id`)) yield { refunds }
  })
}
