import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import { Type } from 'typebox'
import { answer, problemSchemas, responsesOf } from '../routes/schemas.ts'
import type { FastifySchema } from 'fastify'

/** Also for answers without an ETag: `*` matches anything that exists, and a tag matches nothing. */
const notModified = answer(Type.Null(), 'It is what If-None-Match names')
const mismatch = responsesOf(['version-mismatch'])

type Transform = NonNullable<FastifyDynamicSwaggerOptions['transform']>

/** The API as a document and, if asked for, a page to browse it; both come from the routes' schemas. */
export default fp<{ page: boolean }>(async (app, { page }) => {
  // Fastify makes a serializer of each response of each route, which was half of the CPU time of a start. Problems are sent
  // without one (errors.ts), so their schemas are for the document alone.
  const documented = new WeakMap<FastifySchema, FastifySchema>()
  app.addHook('onRoute', route => {
    const { schema } = route
    if (!isObject(schema?.response)) return
    route.schema = { ...schema, response: Object.fromEntries(Object.entries(schema.response).filter(([, response]) => !isProblem(response))) }
    documented.set(route.schema, schema)
  })
  await app.register(swagger, {
    transform: ({ schema, ...others }) => asClientsSeeIt({ schema: documented.get(schema) ?? schema, ...others }),
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Last Orders',
        description: 'Orders in Postgres, exactly once. Money is in minor units. Errors are application/problem+json (RFC 9457).',
        version: '0.1.0'
      },
      // Relative to the document's own URL.
      servers: [{ url: '/' }],
      components: { securitySchemes: { bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } }, schemas: problemSchemas },
      security: [{ bearer: [] }],
      tags: [{ name: 'orders' }, { name: 'products' }, { name: 'probes' }]
    }
  })
  if (page) await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, transformStaticCSP: withoutUpgrade })
  // The largest answer without a token. It is made once, and all slow readers share one copy.
  let document: Buffer | undefined
  app.get('/openapi.json', { schema: { hide: true } }, async (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    return reply.type('application/json; charset=utf-8').send(document)
  })
}, { name: 'openapi', fastify: '5.x' })

/**
 * Corrects what the schemas do not say: a client may leave out a member with a default. It must send the Idempotency-Key, which
 * the schema leaves optional so that its absence gets a problem of its own. Every read has the preconditions of
 * plugins/preconditions.ts.
 */
const asClientsSeeIt: Transform = ({ schema = {}, url, route }) => {
  const { headers, querystring, response } = schema
  return {
    schema: {
      ...schema,
      ...route.method === 'GET' && isObject(response) && { response: { 304: notModified, ...mismatch, ...response } },
      ...isObject(headers) && isObject(headers.properties) && 'idempotency-key' in headers.properties && { headers: { ...headers, required: ['idempotency-key'] } },
      ...isObject(querystring) && { querystring: { ...querystring, required: requiredOf(querystring) } }
    },
    url
  }
}

function requiredOf ({ properties, required }: Record<string, unknown>): unknown[] {
  if (!Array.isArray(required) || !isObject(properties)) return []
  return required.filter(name => {
    const property = properties[String(name)]
    return !(isObject(property) && 'default' in property)
  })
}

function isProblem (response: unknown): boolean {
  return isObject(response) && isObject(response.content) && 'application/problem+json' in response.content
}

function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** Over http from another host, upgrade-insecure-requests makes the browser fetch the page's scripts over https. */
function withoutUpgrade (policy: string): string {
  return policy.split(';').filter(directive => directive.trim() !== 'upgrade-insecure-requests').join(';')
}
