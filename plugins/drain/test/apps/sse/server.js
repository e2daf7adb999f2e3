// Streams that never end by themselves: one that is written to, and one that is read from a generator.
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import sse from '@fastify/sse'
import { Pool } from '../pool.js'

const pool = new Pool()

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 10_000 }) // drain
await app.register(sse)
app.addHook('onClose', async () => { await pool.end() })

app.get('/written', { sse: 'only' }, async (request, reply) => {
  reply.sse.onClose(app.drain.on('closing', () => reply.sse.close())) // drain
  reply.sse.keepAlive()
  await reply.sse.send({ event: 'hello', data: 'hello' })
  const timer = setInterval(() => { reply.sse.send({ data: 'tick' }).catch(() => {}) }, 100)
  reply.sse.onClose(() => clearInterval(timer))
})

app.get('/generated', { sse: 'only' }, async (request, reply) => {
  reply.sse.onClose(app.drain.on('closing', () => reply.sse.close())) // drain
  await reply.sse.send(ticks())
})

app.get('/work', async () => {
  await pool.query()
  return {}
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })

async function * ticks () {
  for (;;) {
    await pool.query()
    yield { data: 'tick' }
  }
}
