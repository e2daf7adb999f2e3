import { LogController, type FastifyBaseLogger, type FastifyHttpOptions } from 'fastify'
import type { Server } from 'node:http'
import { answerClientError } from './client-errors.ts'
import { answerError } from './errors.ts'
import { securityHeaders } from './security-headers.ts'

/** Limits for one client, in ms and bytes. Node's and Fastify's defaults do not bound a slow sender. */
export const serverLimits = {
  // The whole request must arrive within it; a slow body gets 408.
  requestTimeout: 15_000,
  // Longer than the balancer's idle timeout (usually 60 s), or the balancer sends into a connection that is closing.
  keepAliveTimeout: 72_000,
  // Slow steps of the start have limits of their own, whose errors name the step. A busy machine must not fail the start.
  pluginTimeout: 120_000,
  // The largest order has 50,522 bytes: a hundred items, with every character escaped.
  bodyLimit: 65_536,
  http: {
    // plugins/strict-heads.ts requires it and answers with a problem.
    requireHostHeader: false,
    headersTimeout: 10_000,
    connectionsCheckingInterval: 1_000
  }
} as const satisfies FastifyHttpOptions<Server>

/** For both servers of the process. */
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
