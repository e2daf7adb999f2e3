import type { FastifyInstance, FastifyPluginAsync } from 'fastify'

/** For Prometheus, until the process exits: the last scrape of a stop is the one that tells how it went. */
const metrics: FastifyPluginAsync<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/metrics', async (_request, reply) => {
    reply.type(service.metrics.contentType)
    return await service.metrics.render()
  })
}

export default metrics
