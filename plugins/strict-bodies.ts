import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'

/**
 * Fastify's validator turns "2" into 2 and drops what it does not know. That suits a query string, which has nothing but
 * text; in a body, which says what it means, it would store something that nobody sent.
 */
export function strictBodies (): FastifySchemaCompiler<TSchema> {
  const body = new Ajv({ useDefaults: true, coerceTypes: false })
  const text = new Ajv({ useDefaults: true, coerceTypes: true })
  for (const ajv of [body, text]) addFormats.default(ajv)
  return ({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema)
}
