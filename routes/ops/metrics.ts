import type { FastifyInstance, FastifyPluginAsync } from 'fastify'

/** For Prometheus, until the process exits: the last scrape of a stop is the one that tells how it went. */
const metrics: FastifyPluginAsync<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/metrics', async (_request, reply) => {
    const measured = await service.metrics.render()
    return await reply.type('text/plain; version=0.0.4; charset=utf-8').send(measured)
  })
}

export default metrics
