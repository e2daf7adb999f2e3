import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import { PrismaClient } from '#prisma'
import { OrderStore } from '../../orders/store.ts'
import { DatabaseFunctions } from '../../prisma/database-functions.ts'
import { migrate } from '../../prisma/migrate.ts'
import { UtcClient } from '../../prisma/utc-client.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import { withClient } from '../../postgres/with-client.ts'
import type { Progress } from '../../verify/progress.ts'

/** Events of orders, as an SQL expression for each column that is not the default. */
export interface Events {
  /** How many orders have such events. */
  readonly orders: number
  /** Columns of the first event of each order. */
  readonly first: Record<string, string>
  /** Columns of the later events of each order. */
  readonly followers: number
}

const chunk = 100_000

/** The id of the nth order, in SQL. */
const id = "('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid"

export function numberOf (id: string): number {
  return Number(id.slice(-12))
}

/** One Postgres with a database for each name; each has the service's schema and one product. */
export async function openBacklogs (log: string): Promise<{ cluster: Cluster, create: (name: string) => Promise<string> }> {
  const cluster = await Cluster.create({ postgres: { settings: { shared_buffers: '512MB', max_wal_size: '4GB' } }, log })
  return {
    cluster,
    async create (name) {
      await cluster.primary.query(`CREATE DATABASE "${name}"`, [], 'postgres')
      const url = cluster.primary.url(name)
      await migrate({ url })
      await cluster.primary.query("INSERT INTO products (sku, name, unit_price, currency, stock) VALUES ('ale', 'Pint of ale', 520, 'EUR', 2000000000)", [], name)
      return url
    }
  }
}

/** Stores the events without the service. What holds followers back is in the database, and stays on. */
export async function fill (url: string, { orders, first, followers }: Events, progress: Progress, name: string): Promise<void> {
  await withClient(url, async client => {
    for (let stored = 0; stored < orders; stored += chunk) {
      progress.state(`${name}: ${stored.toLocaleString('en')} of ${orders.toLocaleString('en')} orders`)
      const numbers = `generate_series(${stored + 1}, ${Math.min(orders, stored + chunk)}) n`
      await client.query(`INSERT INTO orders (id, customer, idempotency_key, fingerprint, status, currency, total, version, created_at)
        SELECT ${id}, 'customer-' || n % 10000, 'key-' || n, '\\xaa', 'paid', 'EUR', 520, ${followers + 1}, now() FROM ${numbers}`)
      await client.query(`INSERT INTO outbox (order_id, version, type, ${Object.keys(first).join(', ')}) SELECT ${id}, 1, 'placed', ${Object.values(first).join(', ')} FROM ${numbers}`)
      if (followers > 0) await client.query(`INSERT INTO outbox (order_id, version, type) SELECT ${id}, version, 'paid' FROM ${numbers}, generate_series(2, ${followers + 1}) version`)
    }
    await client.query('VACUUM ANALYZE outbox, orders')
    await client.query('CHECKPOINT')
  })
}

export function connectStore (url: string): { store: OrderStore, close: () => Promise<void> } {
  const adapter = new PrismaPg(new pg.Pool({ Client: UtcClient, connectionString: url, max: 10 }), { disposeExternalPool: true })
  const prisma = new PrismaClient({ adapter })
  return { store: new OrderStore(prisma, new DatabaseFunctions(prisma)), close: async () => await prisma.$disconnect() }
}
