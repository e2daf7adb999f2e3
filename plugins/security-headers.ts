import fp from 'fastify-plugin'

/**
 * Tells browsers to believe the Content-Type, to show nothing of an answer in a page, and to send no Referer. An API needs no more;
 * a page sets a policy of its own.
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
