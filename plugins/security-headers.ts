import fp from 'fastify-plugin'

/**
 * What a browser may do with an answer: take it for what it says it is, show nothing of it in a page, tell nobody where it came
 * from. For an API nothing more is needed; a page sets a policy of its own.
 */
export const securityHeaders = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff'
} as const

export default fp(async app => {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers(securityHeaders)
    done()
  })
}, { name: 'security-headers', fastify: '5.x' })
