import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'

/** The API as a document, and a page to browse it; both made from the routes' own schemas. */
export default fp(async app => {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Last Orders',
        description: 'Orders in Postgres, exactly once. Money is in minor units. Errors are application/problem+json (RFC 9457).',
        version: '0.1.0'
      },
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
      security: [{ bearer: [] }],
      tags: [{ name: 'orders' }, { name: 'products' }, { name: 'probes' }]
    }
  })
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, transformStaticCSP: withoutUpgrade })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
}, { name: 'openapi', fastify: '5.x' })

/** Where the service is reached by http and not from loopback, the browser would look for the page's scripts by https. */
function withoutUpgrade (policy: string): string {
  return policy.split(';').filter(directive => directive.trim() !== 'upgrade-insecure-requests').join(';')
}
