// Socket.IO on Fastify's server: orders come as events, and their answers are acknowledgements.
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import { Server } from 'socket.io'
import { Pool } from '../pool.js'

const pool = new Pool()

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 10_000 }) // drain
app.addHook('onClose', async () => { await pool.end() })

const io = new Server(app.server)
const begun = new Set() // drain
io.on('connection', (socket) => {
  socket.on('order', (order, answer) => {
    if (app.drain.state === 'closing') return answer({ error: 'not-started' }) // drain
    const answered = pool.query().then(() => answer({ order }), ({ message }) => answer({ error: message }))
    begun.add(answered) // drain
    answered.finally(() => begun.delete(answered)) // drain
  })
})
app.drain.on('draining', () => io.local.emit('stopping'), { name: 'tell' }) // drain
app.drain.on('closing', async () => { // drain
  await Promise.all(begun) // drain
  // Not io.disconnectSockets(): a client that it disconnects does not reconnect by itself.
  for (const { conn } of io.sockets.sockets.values()) conn.close() // drain
}, { name: 'goodbye' }) // drain

app.get('/work', async () => {
  await pool.query()
  return {}
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
