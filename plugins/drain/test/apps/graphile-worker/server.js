// Orders over HTTP, each with a job that confirms it. The worker of the jobs runs in the same process.
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import { run } from 'graphile-worker'
import pg from 'pg'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 })
await pool.query('create table if not exists orders (id bigserial primary key, begun int not null default 0, confirmed int not null default 0)')

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 10_000 }) // drain
app.addHook('onClose', async () => { await pool.end() })

const runner = await run({
  pgPool: pool,
  concurrency: 5,
  noHandleSignals: true, // drain
  taskList: {
    async confirm ({ order }) {
      await pool.query('update orders set begun = begun + 1 where id = $1', [order])
      await pool.query('select pg_sleep(2)')
      await pool.query('update orders set confirmed = confirmed + 1 where id = $1', [order])
    }
  }
})
app.drain.on('draining', () => { app.drain.track('jobs under way', runner.stop()) }, { name: 'stop worker' }) // drain

app.post('/orders', async (request, reply) => {
  const client = await pool.connect()
  try {
    await client.query('begin')
    const { rows: [{ id }] } = await client.query('insert into orders default values returning id')
    await client.query("select graphile_worker.add_job('confirm', json_build_object('order', $1::bigint))", [id])
    await client.query('select pg_sleep(0.2)')
    await client.query('commit')
    return reply.code(201).send({ id })
  } finally {
    client.release()
  }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
