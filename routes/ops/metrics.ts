import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { contentTypes } from '../../plugins/metrics.ts'

/** For Prometheus, until the process exits. A scrape may miss the end of a stop, so the other instances report it. */
const metrics: FastifyPluginAsync<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/metrics', async (request, reply) => {
    // Prometheus prefers OpenMetrics; other scrapers get the text format.
    const format = request.headers.accept?.includes('application/openmetrics-text') === true ? 'openMetrics' : 'text'
    reply.headers({ 'content-type': contentTypes[format], vary: 'accept' })
    return await service.metrics.render(format)
  })
}

export default metrics
