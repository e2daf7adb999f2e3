import { join } from 'node:path'
import type pg from 'pg'
import { signToken } from '../../auth/local-token.ts'
import { transitions } from '../../orders/order.ts'
import { migrate } from '../../prisma/migrate.ts'
import { findBinaries } from '../../prisma/postgres/binaries.ts'
import { withClient } from '../postgres/with-client.ts'
import type { Answer, Command, Completion, EventStored, Operation, OrderAnswered, OrderStored, Request, Snapshot, Target } from '../target.ts'

/** Opens nothing but a service of the harness's own. */
export const secret = 'known to everybody, and good for a run of verify only'

/** As `npm start` and the image run it; test/image-layout.test.ts holds the three together. */
export const node = [process.execPath, '--min-semi-space-size=64', '--no-allocation-site-pretenuring'] as const

interface Place {
  readonly databaseUrl: string
  readonly port: number
  readonly opsPort: number
}

/** How the service is started as in production, with these settings of its environment beside what it needs. */
export function inProduction ({ databaseUrl, port, opsPort }: Place, settings: Command['env']): Command {
  return {
    command: [...node, join(import.meta.dirname, '../../server.ts')],
    env: { NODE_ENV: 'production', DATABASE_URL: databaseUrl, AUTH_JWT_SECRET: secret, PORT: String(port), OPS_PORT: String(opsPort), ...settings }
  }
}

/** The order service of this repository. */
const orderService: Target = {
  name: 'order-service',
  postgres: { binaries: findBinaries },

  async prepare ({ directDatabaseUrl, products }) {
    await migrate({ url: directDatabaseUrl })
    await withClient(directDatabaseUrl, async client => {
      await client.query(`
        insert into products (sku, name, unit_price, currency, stock)
        select sku, name, "unitPrice", currency, stock
        from jsonb_to_recordset($1) as product (sku text, name text, "unitPrice" bigint, currency text, stock bigint)`, [JSON.stringify(products)])
    })
  },

  start: ({ directory, databaseUrl }, { port, opsPort, balanced, agentPort }) => ({
    ...inProduction({ databaseUrl, port, opsPort }, {
      ...agentPort !== undefined && { AGENT_PORT: String(agentPort) },
      DRAIN_MIN_MS: balanced ? '1000' : '0',
      DRAIN_QUIET_MS: balanced ? '500' : '0',
      DRAIN_MAX_MS: balanced ? '5000' : '0'
    }),
    // Where there is no .env that could change what is tested.
    cwd: directory
  }),

  readiness: '/readyz',
  phases: phasesIn,
  request: requestFor,
  understand,

  stream: {
    request: customer => ({ method: 'GET', path: '/orders/stream', headers: { ...authorization(customer), accept: 'text/event-stream' } }),
    understand (data) {
      const { orderId, version, type } = JSON.parse(data) as { orderId: string, version: number, type: string }
      return { orderId, version, type }
    }
  },

  snapshot: async ({ directDatabaseUrl }) => await withClient(directDatabaseUrl, readAll),
  transitions: stepsOf(transitions)
}

export default orderService

function requestFor (operation: Operation): Request {
  const headers = authorization(operation.customer)
  switch (operation.kind) {
    case 'place': return {
      method: 'POST',
      path: '/orders',
      headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': operation.key },
      body: JSON.stringify(operation.order)
    }
    case 'pay':
    case 'cancel': return { method: 'POST', path: `/orders/${operation.id}/${operation.kind}`, headers }
    case 'read': return { method: 'GET', path: `/orders/${operation.id}`, headers }
    case 'list': return { method: 'GET', path: operation.cursor === undefined ? '/orders' : `/orders?cursor=${operation.cursor}`, headers }
  }
}

function authorization (customer: string): Record<string, string> {
  return { authorization: `Bearer ${signToken({ secret, sub: customer })}` }
}

type Understood = Pick<Completion, 'type' | 'problem' | 'order' | 'ids' | 'next' | 'replayed'>

/**
 * A 2xx is `ok`. A refusal by a 4xx, or by the 503 that says so, stored nothing. Any other 5xx may come from anywhere
 * between the client and the commit.
 */
function understand (operation: Operation, { status, headers, body }: Answer): Understood {
  const content = parsed(body)
  if (status >= 200 && status < 300) {
    if (operation.kind === 'list') {
      const { orders, next } = content as { orders: Array<{ id: string }>, next: string | null }
      return { type: 'ok', ids: orders.map(order => order.id), ...next === null ? {} : { next } }
    }
    return { type: 'ok', order: answered(content as OrderAnswered), ...headers['idempotent-replayed'] === 'true' ? { replayed: true } : {} }
  }
  const problem = problemOf(content) ?? `http-${status}`
  return { type: status < 500 || problem === 'not-started' ? 'fail' : 'info', problem }
}

/** Without what only this service says. */
function answered ({ id, status, version, currency, items, total, reference }: OrderAnswered): OrderAnswered {
  return { id, status, version, currency, items, total, reference }
}

/** The end of the problem's type (RFC 9457). */
function problemOf (content: unknown): string | undefined {
  const type = (content as { type?: unknown } | undefined)?.type
  return typeof type === 'string' ? type.split('/').at(-1) : undefined
}

/** undefined: not JSON, as what a balancer says by itself. */
function parsed (body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** From the report in the last line of the log. */
function phasesIn (log: string): ReturnType<NonNullable<Target['phases']>> {
  const line = log.trimEnd().split('\n').at(-1) ?? ''
  const { drain } = (parsed(line) ?? {}) as { drain?: { phases: Record<'draining' | 'closing' | 'closed', number | null> } }
  const { draining = null, closing = null, closed = null } = drain?.phases ?? {}
  return draining === null || closing === null || closed === null ? undefined : { draining, closing, closed }
}

/** pg gives a bigint as text and a float8 as a number, which is exact here: checks of the schema keep totals and stock below 2^53. */
async function readAll (client: pg.Client): Promise<Snapshot> {
  await client.query('begin isolation level repeatable read read only')
  const { rows: orders } = await client.query<OrderStored>(`
    select id, customer, idempotency_key as key, status, version, currency, total::float8 as total, reference, coalesce(items, '[]') as items
    from orders left join (
      select order_id, json_agg(json_build_object('sku', sku, 'quantity', quantity, 'unitPrice', unit_price) order by position) as items
      from order_items group by order_id
    ) lines on order_id = id`)
  const { rows: products } = await client.query<{ sku: string, available: number }>('select sku, stock::float8 as available from products')
  const { rows: events } = await client.query<EventStored>(`
    select order_id as "orderId", version, type,
           available_at is null and not exists (select from outbox_leases lease where lease.tx = outbox.tx) as delivered
    from outbox order by order_id, version`)
  await client.query('commit')
  return { orders, products, events }
}

/** From each status, those that may follow. */
function stepsOf (steps: typeof transitions): Record<string, string[]> {
  const followers: Record<string, string[]> = {}
  for (const { from, to } of Object.values(steps)) {
    followers[to] ??= []
    for (const status of from) (followers[status] ??= []).push(to)
  }
  return followers
}
