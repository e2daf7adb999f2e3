import ws from '@fastify/websocket'
import { fastifyTRPCPlugin, type FastifyTRPCPluginOptions } from '@trpc/server/adapters/fastify'
import fastify from 'fastify'
import drain from 'fastify-drain' // drain
import { appRouter, closing, pool, type AppRouter } from './router.ts'

const server = fastify({
  logger: true, // drain: its last line is the report
  routerOptions: { maxParamLength: 5000 }
})

await server.register(drain, { lameDuck: { min: 1_000 }, deadline: 10_000 }) // drain: before all others
server.drain.on('closing', () => { // drain: ends subscriptions
  // Closed before the abort, because tRPC would report an abort as a failure, and clients would not reconnect.
  for (const client of server.websocketServer.clients) client.close(1001) // drain: those over WebSockets
  closing.abort() // drain: those over server-sent events
})
server.addHook('onClose', async () => { await pool.end() })

server.register(ws)
server.register(fastifyTRPCPlugin, {
  prefix: '/trpc',
  useWSS: true,
  trpcOptions: {
    router: appRouter,
    onError ({ path, error }) {
      server.log.error(error, `in tRPC handler on path '${path}'`)
    }
  } satisfies FastifyTRPCPluginOptions<AppRouter>['trpcOptions']
})

try {
  await server.listen({ port: Number(process.env.PORT ?? 3000) })
} catch (err) {
  server.log.error(err)
  process.exit(1)
}
