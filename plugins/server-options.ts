import { LogController, type FastifyBaseLogger, type FastifyHttpOptions } from 'fastify'
import type { Server } from 'node:http'
import { answerClientError } from './client-errors.ts'
import { answerError } from './errors.ts'
import { securityHeaders } from './security-headers.ts'

/** What one client may cost, in ms and bytes: none of Node's and Fastify's defaults bounds a slow sender. */
export const serverLimits = {
  // The whole request must have come by then; a slow body is ended with 408.
  requestTimeout: 15_000,
  // Above the idle time of the balancer in front (60 s is usual), or it sends into a connection that is just being closed.
  keepAliveTimeout: 72_000,
  // What takes long at a start has a limit of its own, which names it. A busy machine is no reason to give up.
  pluginTimeout: 120_000,
  // The largest order has 50,522 bytes: a hundred lines, with every character escaped.
  bodyLimit: 65_536,
  http: {
    // plugins/strict-heads.ts does, with a body.
    requireHostHeader: false,
    headersTimeout: 10_000,
    connectionsCheckingInterval: 1_000
  }
} as const satisfies FastifyHttpOptions<Server>

/** What both servers of the process are made with. */
export function serverOptions (logger: FastifyBaseLogger) {
  return {
    ...serverLimits,
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => crypto.randomUUID(),
    frameworkErrors: (error, request, reply) => {
      if (request.server.hasDecorator('requests')) request.server.requests.follow(request, reply)
      answerError(error, request, reply.headers(securityHeaders))
    },
    clientErrorHandler: answerClientError
  } satisfies FastifyHttpOptions<Server, FastifyBaseLogger>
}
