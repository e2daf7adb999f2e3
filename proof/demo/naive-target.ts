import { join } from 'node:path'
import { withClient } from '../../postgres/with-client.ts'
import orderService from '../order-service.ts'
import plainNode from '../../verify/examples/plain-node/target.mts'
import type { OrderStored, Target } from '../../verify/target.ts'

/** The target of one of the two naive services of this folder. They have the API of plain-node, and keep orders in one table. */
export function naiveTarget (name: 'write-behind' | 'commit-first'): Target {
  return {
    name,
    ...orderService.postgres === undefined ? {} : { postgres: orderService.postgres },

    async prepare ({ directDatabaseUrl, products }) {
      await withClient(directDatabaseUrl, async client => {
        await client.query(`
          create table products (sku text primary key, unit_price bigint not null, stock bigint not null);
          create table orders (
            id uuid primary key, customer text not null, key text not null, currency text not null, total bigint not null,
            reference text, items jsonb not null, unique (customer, key)
          )`)
        await client.query(`
          insert into products
          select sku, "unitPrice", stock from jsonb_to_recordset($1) as p (sku text, "unitPrice" bigint, stock bigint)`, [JSON.stringify(products)])
      })
    },

    start: ({ databaseUrl }, { port }) => ({
      command: [process.execPath, join(import.meta.dirname, `${name}.ts`)],
      env: { DATABASE_URL: databaseUrl, PORT: String(port) }
    }),

    readiness: '/healthz',
    request: operation => operation.kind === 'place' ? plainNode.request(operation) : undefined,

    understand (operation, answer) {
      // Fastify itself gives this answer while it closes, before a handler begins.
      if (answer.status === 503) return { type: 'fail', problem: 'not-started' }
      return plainNode.understand(operation, answer)
    },

    snapshot: async ({ directDatabaseUrl }) => await withClient(directDatabaseUrl, async client => {
      const { rows: orders } = await client.query<OrderStored>(`
        select id, customer, key, 'placed' as status, 1 as version, currency, items, total::float8 as total, reference from orders`)
      return { orders }
    })
  }
}
