// A service like most: one transaction for each order, and an answer after its commit. It handles no signals, like Fastify's
// "Getting Started": SIGTERM ends the process at once.
import Fastify from 'fastify'
import pg from 'pg'
import { priced, readCatalogue, type Asked } from './catalogue.ts'

const app = Fastify({ logger: true })
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })

app.get('/healthz', async () => ({ ok: true }))

app.post<{ Body: Asked }>('/orders', async (request, reply) => {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    const order = { id: crypto.randomUUID(), ...priced(await readCatalogue(client), request.body) }
    // Sorted by name, or two orders of the same products would deadlock.
    for (const { sku, quantity } of order.items.toSorted((a, b) => a.sku < b.sku ? -1 : 1)) {
      await client.query('UPDATE products SET stock = stock - $2 WHERE sku = $1', [sku, quantity])
    }
    await client.query('INSERT INTO orders (id, customer, key, currency, total, reference, items) VALUES ($1, $2, $3, $4, $5, $6, $7)', [
      order.id, request.headers['x-customer'], request.headers['idempotency-key'],
      order.currency, order.total, order.reference, JSON.stringify(order.items)
    ])
    await client.query('COMMIT')
    return await reply.code(201).send(order)
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
})

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
