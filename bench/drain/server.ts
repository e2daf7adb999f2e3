import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import type { DrainOptions } from 'fastify-drain'
import type { FastifyPluginAsync } from 'fastify'

/**
 * The server whose cost is measured: one small JSON route. Its argument is the module of the plugin, or nothing. On
 * request it sends the CPU time that it has used, in microseconds, over all its threads: those of the compiler and the
 * garbage collector included.
 */
const [plugin] = process.argv.slice(2)

const app = Fastify()
if (plugin !== undefined) {
  const { default: drain } = await import(plugin) as { default: FastifyPluginAsync<DrainOptions> }
  await app.register(drain)
}

const order = {
  type: 'object',
  properties: { id: { type: 'string' }, status: { type: 'string' }, total: { type: 'integer' }, placedAt: { type: 'string' } }
}
app.get('/orders/:id', { schema: { response: { 200: order } } }, async request => {
  const { id } = request.params as { id: string }
  return { id, status: 'placed', total: 1_250, placedAt: '2026-11-23T08:20:39.745Z' }
})

await app.listen({ port: 0, host: '127.0.0.1' })

process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send?.({ cpu: user + system })
})
process.on('disconnect', () => process.exit())
process.send?.({ port: (app.server.address() as AddressInfo).port })
