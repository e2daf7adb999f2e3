// A gateway: requests and WebSockets go to a slow upstream.
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import proxy from '@fastify/http-proxy'

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 10_000 }) // drain

const sockets = new Set() // drain
await app.register(proxy, {
  upstream: process.env.UPSTREAM,
  prefix: '/api',
  websocket: true,
  destroyAgent: true,
  wsHooks: { onConnect: (context, socket) => sockets.add(socket.once('close', () => sockets.delete(socket))) } // drain
})
app.drain.on('closing', () => { for (const socket of sockets) socket.close(1001, 'the service is stopping') }, { name: 'goodbye' }) // drain

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
