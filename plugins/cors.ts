import fastifyCors from '@fastify/cors'
import fp from 'fastify-plugin'

export interface CorsOptions {
  /** Scheme, host and port each. */
  origins: readonly string[]
}

/** How long a browser may cache a preflight, in s; most cap it at two hours. */
const maxAgeS = 7_200

/**
 * Lets scripts of these origins call the API with a token. The API uses no cookies, so none are allowed: a page can do no more
 * than any program that holds the token.
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
