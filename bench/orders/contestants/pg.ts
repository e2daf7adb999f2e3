import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import pg from 'pg'
import { orderSchema, type OrderRoute } from './order-schema.ts'

// An order as one prepared statement of pg, which is its own transaction. A used key or short stock fails the whole
// statement.

const customer = 'guest'
const unique = '23505'
const notNull = '23502'

const { DATABASE_URL, PORT, POOL } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(POOL) })
const app = Fastify()

interface Placed {
  id: string
  total: string
  created_at: Date
  unit_prices: string[]
}

// The total is null if a line of the order was not sold, and the column refuses null.
const place = {
  name: 'place-order',
  text: `
    WITH sold AS (
      UPDATE products SET stock = stock - line.quantity
        FROM unnest($4::text[], $5::integer[]) WITH ORDINALITY AS line (sku, quantity, position)
       WHERE products.sku = line.sku AND products.currency = $3 AND products.stock >= line.quantity
      RETURNING line.position, line.sku, line.quantity, products.unit_price
    ), placed AS (
      INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
      SELECT uuidv7(), '${customer}', $1, $2, $3, CASE WHEN count(*) = cardinality($4) THEN sum(quantity * unit_price) END, now() FROM sold
      RETURNING id, total, created_at
    ), lines AS (
      INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
      SELECT placed.id, sold.position, sold.sku, sold.quantity, sold.unit_price FROM placed, sold
    ), event AS (
      INSERT INTO outbox (order_id, version, type) SELECT id, 1, 'placed' FROM placed
    )
    SELECT id, total, created_at, (SELECT array_agg(unit_price ORDER BY position) FROM sold) AS unit_prices FROM placed`
}

const find = {
  name: 'find-order',
  text: `
    SELECT id, fingerprint, total, created_at, (SELECT array_agg(unit_price ORDER BY position) FROM order_items WHERE order_id = id) AS unit_prices
      FROM orders WHERE customer = '${customer}' AND idempotency_key = $1`
}

app.post<OrderRoute>('/orders', { schema: orderSchema }, async (request, reply) => {
  const key = request.headers['idempotency-key']
  const { currency, items } = request.body
  const fingerprint = createHash('sha256').update(JSON.stringify(request.body)).digest()
  const onTheWire = ({ id, total, created_at: createdAt, unit_prices: unitPrices }: Placed) => ({
    id,
    customer,
    status: 'placed',
    currency,
    items: items.map((item, index) => ({ ...item, unitPrice: Number(unitPrices[index]) })),
    total: Number(total),
    reference: null,
    version: 1,
    createdAt: createdAt.toISOString()
  })
  try {
    const { rows: [placed] } = await pool.query<Placed>({
      ...place,
      values: [key, fingerprint, currency, items.map(({ sku }) => sku), items.map(({ quantity }) => quantity)]
    })
    if (placed === undefined) throw new Error('The statement that places an order returned no row.')
    return await reply.code(201).send(onTheWire(placed))
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    if (error.code === notNull) return await reply.code(409).send({ message: 'There is not enough of a product, or no such product. Nothing was stored.' })
    if (error.code !== unique) throw error
    const { rows: [found] } = await pool.query<Placed & { fingerprint: Buffer }>({ ...find, values: [key] })
    if (found === undefined || !found.fingerprint.equals(fingerprint)) return await reply.code(422).send({ message: 'The Idempotency-Key was used for another request.' })
    return await reply.code(201).send(onTheWire(found))
  }
})

await app.listen({ host: '127.0.0.1', port: Number(PORT) })
