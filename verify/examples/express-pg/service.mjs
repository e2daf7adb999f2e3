// Orders on Express and pg: a service that does not depend on verify. verify.yaml, beside it, describes it.
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import express from 'express'
import pg from 'pg'

const { PORT, DATABASE_URL, BROKEN } = process.env
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 20, connectionTimeoutMillis: 5_000 })
// Idle connections end with the database; the next query opens another.
pool.on('error', () => {})

const app = express()
let stopping = false

app.use((request, response, next) => {
  // Otherwise a keep-alive client would keep the process running.
  if (stopping) response.set('connection', 'close')
  next()
})
app.get('/healthz', (request, response) => response.sendStatus(stopping ? 503 : 200))
app.use(express.json())

app.post('/orders', async (request, response) => {
  const asked = { id: randomUUID(), customer: request.get('x-customer'), key: request.get('idempotency-key'), body: request.body }
  await answerWith(response, async client => await claim(client, asked) ?? await fill(client, asked))
})

app.get('/orders/:id', async (request, response) => {
  const { rows: [order] } = await pool.query('select * from orders where id = $1 and customer = $2', [request.params.id, request.get('x-customer')])
  if (order === undefined) response.status(404).json({ error: 'not-found' })
  else response.json(onTheWire(order))
})

app.get('/orders', async (request, response) => {
  const { rows } = await pool.query(`
    select * from orders
    where customer = $1 and ($2::uuid is null or (placed_at, id) < (select placed_at, id from orders where id = $2))
    order by placed_at desc, id desc limit 21`, [request.get('x-customer'), request.query.after])
  const page = rows.slice(0, 20)
  response.json({ orders: page.map(onTheWire), next: rows.length > 20 ? page.at(-1).id : null })
})

const steps = { pay: { from: ['placed'], to: 'paid' }, cancel: { from: ['placed', 'paid'], to: 'cancelled' } }
for (const [name, { from, to }] of Object.entries(steps)) {
  app.post(`/orders/:id/${name}`, async (request, response) => {
    await answerWith(response, async client => {
      const { rows: [order] } = await client.query('select * from orders where id = $1 and customer = $2 for update', [request.params.id, request.get('x-customer')])
      if (order === undefined) return { status: 404, error: 'not-found' }
      if (order.status === to) return { status: 200, order }
      if (!from.includes(order.status)) return { status: 409, error: 'transition-not-allowed' }
      if (to === 'cancelled') {
        // Sorted, or two orders would deadlock.
        for (const { sku, quantity } of inOrder(order.items)) await client.query('update products set stock = stock + $2 where sku = $1', [sku, quantity])
      }
      const { rows: [moved] } = await client.query('update orders set status = $2, version = version + 1 where id = $1 returning *', [order.id, to])
      return { status: 200, order: moved }
    })
  })
}

// A failed request may be stored or not: only a retry with the same key shows that.
app.use((error, request, response, next) => {
  if (response.headersSent) next(error)
  else response.status(500).json({ error: 'outcome-unknown' })
})

const server = app.listen(Number(PORT), '127.0.0.1')

process.once('SIGTERM', () => {
  if (BROKEN === 'early') process.exit(0)
  stopping = true
  // Node closes idle connections at once, even if a request has arrived that it has not read yet. So this serves for a moment longer.
  setTimeout(() => {
    // Waits for the requests that have begun.
    server.close(() => pool.end())
  }, 500)
})

/** Makes the order of this key; where there is one already, that is the outcome. */
async function claim (client, { id, customer, key, body }) {
  const { rowCount: made } = await client.query(`
    insert into orders (id, customer, key, asked, currency, reference) values ($1, $2, $3, $4, $5, $6)
    on conflict (customer, key) do nothing`, [id, customer, key, body, body.currency, body.reference])
  if (made === 1) return undefined
  const { rows: [first] } = await client.query('select *, asked = $3::jsonb as same from orders where customer = $1 and key = $2', [customer, key, body])
  if (!first.same) return { status: 422, error: 'idempotency-key-reused' }
  // The first answer, whatever happened to the order since.
  return { status: 201, order: { ...first, status: 'placed', version: 1 }, replayed: true }
}

/** Takes its products out of the stock, at their prices. */
async function fill (client, { id, body }) {
  const prices = new Map()
  for (const { sku, quantity } of inOrder(body.items)) {
    const { rows: [product] } = await client.query('update products set stock = stock - $2 where sku = $1 and stock >= $2 returning unit_price', [sku, quantity])
    if (product === undefined) return { status: 409, error: 'out-of-stock' }
    prices.set(sku, Number(product.unit_price))
  }
  const items = body.items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: prices.get(sku) }))
  const total = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  const { rows: [order] } = await client.query('update orders set items = $2, total = $3 where id = $1 returning *', [id, JSON.stringify(items), total])
  return { status: 201, order }
}

/** Does it, commits, and then answers. */
async function answerWith (response, work) {
  // The fault that verify must find: the client has its answer, and the order is stored a moment later, if ever.
  const early = BROKEN === 'early'
  const { status, order, error, replayed = false } = await transaction(work, early ? 'rollback' : 'commit')
  if (replayed) response.set('idempotent-replayed', 'true')
  response.status(status).json(error === undefined ? onTheWire(order) : { error })
  if (early) await delay(50).then(() => transaction(work, 'commit'))
}

/** What is refused is rolled back. */
async function transaction (work, end) {
  const client = await pool.connect()
  let failure
  try {
    await client.query('begin')
    const outcome = await work(client)
    await client.query(outcome.error === undefined ? end : 'rollback')
    return outcome
  } catch (error) {
    failure = error
    throw error
  } finally {
    // A failed connection may be in the middle of a transaction.
    client.release(failure)
  }
}

function inOrder (items) {
  return items.toSorted((a, b) => a.sku < b.sku ? -1 : 1)
}

function onTheWire ({ id, status, version, currency, items, total, reference }) {
  return { id, status, version, currency, items, total: Number(total), reference }
}
