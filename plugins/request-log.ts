import fp from 'fastify-plugin'

/** Logs one line when a request has ended, also if the client has gone. The client gets the request's id, too. */
export default fp(async app => {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  app.requests.onEnd(({ request, route, status, errorType, durationMs, isWhole, isProbe }) => {
    const details = {
      method: request.method,
      url: request.url,
      route,
      status,
      errorType,
      durationMs: Math.round(durationMs * 10) / 10,
      customer: request.customer
    }
    if (!isWhole) request.log.info(details, errorType === 'abandoned' ? 'request abandoned: the stop was at its deadline, and the client got no whole answer' : 'request aborted: the client did not get the whole answer')
    else if (isProbe) request.log.debug(details, 'request completed')
    else request.log.info(details, 'request completed')
  })
}, { name: 'request-log', fastify: '5.x', dependencies: ['request-telemetry'] })
