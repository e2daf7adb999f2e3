import type { FastifyInstance, FastifyPluginAsync } from 'fastify'

/** For Prometheus, until the process exits: the last scrape of a stop is the one that tells how it went. */
const metrics: FastifyPluginAsync<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/metrics', async (_request, reply) => {
    return await reply.type(service.metrics.contentType).send(await service.metrics.render())
  })
}

export default metrics
