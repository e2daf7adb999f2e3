import fastifyCors from '@fastify/cors'
import fp from 'fastify-plugin'

export interface CorsOptions {
  /** Scheme, host and port each. */
  origins: readonly string[]
}

/** How long a browser may remember what it may send, in s; most know two hours at most. */
const maxAgeS = 7_200

/**
 * Lets the scripts of these origins ask the API, by a token that they hold. Nothing here is by cookie, so none is sent: a page
 * can do no more than any program that holds the token.
 */
export default fp<CorsOptions>(async (app, { origins }) => {
  await app.register(fastifyCors, {
    origin: [...origins],
    credentials: false,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    allowedHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'If-Match', 'If-None-Match', 'Last-Event-ID', 'Prefer', 'traceparent', 'tracestate', 'baggage'],
    exposedHeaders: ['ETag', 'Idempotent-Replayed', 'Location', 'Retry-After', 'WWW-Authenticate', 'X-Request-ID'],
    maxAge: maxAgeS
  })
}, { name: 'cors', fastify: '5.x' })
