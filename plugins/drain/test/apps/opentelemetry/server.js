// Traces, started with `node --import ./instrumentation.js server.js`, and a log that a worker thread sends away.
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import { Pool } from '../pool.js'
import { sdk } from './instrumentation.js'

const pool = new Pool()
const targets = [
  { target: 'pino/file' },
  { target: fileURLToPath(new URL('transport.js', import.meta.url)), options: { url: process.env.LOGS_URL } }
]

const app = Fastify({ logger: { transport: { targets } } })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 10_000 }) // drain
// The first of these hooks runs last, so that it also sends the spans of the other hooks.
app.addHook('onClose', async function sendSpans () { await sdk.shutdown() }) // drain
app.addHook('onClose', async () => { await pool.end() })

app.get('/work', async () => {
  await pool.query()
  return {}
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
