import fp from 'fastify-plugin'

/** One line for each request, when it has ended, also where the client has gone; the id goes to the client too. */
export default fp(async app => {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  app.requests.onEnd(({ request, route, status, errorType, durationMs, isWhole, isProbe }) => {
    const details = { method: request.method, url: request.url, route, status, errorType, durationMs: Math.round(durationMs * 10) / 10, customer: request.customer }
    if (!isWhole) request.log.info(details, errorType === 'abandoned' ? 'request abandoned: the stop was at its deadline, and the client got no whole answer' : 'request aborted: the client did not get the whole answer')
    else if (isProbe) request.log.debug(details, 'request completed')
    else request.log.info(details, 'request completed')
  })
}, { name: 'request-log', fastify: '5.x', dependencies: ['request-telemetry'] })
