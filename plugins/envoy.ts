import fp from 'fastify-plugin'

/**
 * Tells Envoy with every reply of a stop to send no more here, without waiting for its next health check; which has to be an
 * active one. To be stripped where clients are, who need not know. Source: the router filter of Envoy's documentation,
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
 */
export default fp(async app => {
  // When it is sent, not when it is asked: what is under way at the signal is the first that can tell.
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (app.drain.state !== 'serving') reply.header('x-envoy-immediate-health-check-fail', 'true')
    done(null, payload)
  })
}, { name: 'envoy', fastify: '5.x', dependencies: ['fastify-drain'] })
