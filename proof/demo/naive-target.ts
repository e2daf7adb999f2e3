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
          CREATE TABLE products (sku text PRIMARY KEY, unit_price bigint NOT NULL, stock bigint NOT NULL);
          CREATE TABLE orders (
            id uuid PRIMARY KEY, customer text NOT NULL, key text NOT NULL, currency text NOT NULL, total bigint NOT NULL,
            reference text, items jsonb NOT NULL, UNIQUE (customer, key)
          )`)
        await client.query(`
          INSERT INTO products
          SELECT sku, "unitPrice", stock FROM jsonb_to_recordset($1) AS p (sku text, "unitPrice" bigint, stock bigint)`, [JSON.stringify(products)])
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
        SELECT id, customer, key, 'placed' AS status, 1 AS version, currency, items, total::float8 AS total, reference FROM orders`)
      return { orders }
    })
  }
}
