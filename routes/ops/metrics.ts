import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { contentTypes } from '../../plugins/metrics.ts'

/** For Prometheus, until the process exits. How a stop went is told by those who live on: a scrape may miss it. */
const metrics: FastifyPluginAsync<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/metrics', async (request, reply) => {
    // Prometheus prefers OpenMetrics; what does not know it gets the text.
    const format = request.headers.accept?.includes('application/openmetrics-text') === true ? 'openMetrics' : 'text'
    reply.headers({ 'content-type': contentTypes[format], vary: 'accept' })
    return await service.metrics.render(format)
  })
}

export default metrics
