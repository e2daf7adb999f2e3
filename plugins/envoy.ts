import fp from 'fastify-plugin'

/**
 * Tells Envoy with every reply during a stop to send no more requests, before its next health check. Envoy needs active health
 * checks for this. Strip the header before it reaches clients. Source:
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
 */
export default fp(async app => {
  // onSend, because the requests under way at the signal are the first that can tell.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (app.drain.state !== 'serving') reply.header('x-envoy-immediate-health-check-fail', 'true')
    done(null, payload)
  })
}, { name: 'envoy', fastify: '5.x', dependencies: ['fastify-drain'] })
