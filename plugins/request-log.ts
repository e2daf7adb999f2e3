import fp from 'fastify-plugin'

/** One line for each request, when it has ended, also where the client has gone; the id goes to the client too. */
export default fp(async app => {
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    reply.raw.on('close', () => {
      const details = { method: request.method, url: request.url, status: reply.statusCode, durationMs: Math.round(reply.elapsedTime * 10) / 10, customer: request.customer }
      if (!reply.raw.writableFinished) request.log.info(details, 'request aborted: the client did not get the whole answer')
      else if (request.routeOptions.config.probe === true) request.log.debug(details, 'request completed')
      else request.log.info(details, 'request completed')
    })
    done()
  })
}, { name: 'request-log', fastify: '5.x' })
