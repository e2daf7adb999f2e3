// A service like many: it answers at once and writes in the background, several orders at a time, which makes it fast. It
// stops by the recipe for Fastify in the README of close-with-grace.
import closeWithGrace from 'close-with-grace'
import Fastify from 'fastify'
import pg from 'pg'
import { priced, readCatalogue, type Asked } from './catalogue.ts'

const flushEveryMs = 1_000

const app = Fastify({ logger: true })
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 })
app.addHook('onClose', async () => { await pool.end() })
const catalogue = await readCatalogue(pool)

let buffer: object[] = []
setInterval(async () => {
  if (buffer.length === 0) return
  const orders = buffer
  buffer = []
  try {
    await pool.query(`
      INSERT INTO orders (id, customer, key, currency, total, reference, items)
      SELECT id, customer, key, currency, total, reference, items
      FROM jsonb_to_recordset($1) AS o (id uuid, customer text, key text, currency text, total bigint, reference text, items jsonb)`, [JSON.stringify(orders)])
  } catch (error) {
    app.log.error(error)
    buffer = [...orders, ...buffer]
  }
}, flushEveryMs)

app.get('/healthz', async () => ({ ok: true }))

app.post<{ Body: Asked }>('/orders', async (request, reply) => {
  const order = { id: crypto.randomUUID(), ...priced(catalogue, request.body) }
  buffer.push({ ...order, customer: request.headers['x-customer'], key: request.headers['idempotency-key'] })
  return await reply.code(201).send(order)
})

closeWithGrace(async function ({ signal, err }) {
  if (err) {
    app.log.error({ err }, 'server closing with error')
  } else {
    app.log.info(`${signal} received, server closing`)
  }
  await app.close()
})

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
