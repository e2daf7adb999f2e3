import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import { PrismaClient } from '#prisma'
import { ProductStore } from '../orders/product-store.ts'
import { OrderStore } from '../orders/store.ts'
import { DatabaseFunctions } from '../prisma/database-functions.ts'
import { UtcClient } from '../prisma/utc-client.ts'
import { createTestDatabase } from './postgres.ts'

interface Test {
  teardown (end: () => Promise<void>): unknown
}

/** Opens the service's SQL on a database of the test's own, and a plain connection beside it. */
export async function openStore (t: Test): Promise<{ url: string, store: OrderStore, products: ProductStore, prisma: PrismaClient, sql: pg.Client }> {
  const { url } = await createTestDatabase(t)
  const { store, products, prisma } = connectStore(t, url)
  const sql = new pg.Client({ connectionString: url, application_name: 'test' })
  await sql.connect()
  t.teardown(async () => { await sql.end() })
  return { url, store, products, prisma, sql }
}

/** Connects another instance to the same database. */
export function connectStore (t: Test, url: string, options: pg.PoolConfig = {}): { store: OrderStore, products: ProductStore, prisma: PrismaClient } {
  const pool = new pg.Pool({ Client: UtcClient, connectionString: url, max: 10, application_name: 'last-orders', ...options })
  const adapter = new PrismaPg(pool, { disposeExternalPool: true, onPoolError () {}, onConnectionError () {} })
  const prisma = new PrismaClient({ adapter })
  t.teardown(async () => { await prisma.$disconnect() })
  const functions = new DatabaseFunctions(prisma)
  return { store: new OrderStore(prisma, functions), products: new ProductStore(prisma, functions), prisma }
}
