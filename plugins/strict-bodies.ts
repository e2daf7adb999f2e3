import { Ajv, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifySchemaCompiler, FastifySchemaValidationError } from 'fastify'
import type { TSchema } from 'typebox'

/**
 * Fastify's validator turns "2" into 2 and drops unknown members. That suits a query string, which is all text. In a body, which
 * has types, it would store something that nobody sent.
 */
export function strictBodies (): FastifySchemaCompiler<TSchema> {
  const body = new Ajv({ useDefaults: true, coerceTypes: false })
  const text = new Ajv({ useDefaults: true, coerceTypes: 'array' })
  for (const ajv of [body, text]) addFormats.default(ajv)
  // routes/instants.ts checks instants and explains what is wrong.
  text.addFormat('date-time', true)
  return ({ schema, httpPart }) => httpPart === 'body' ? body.compile(schema) : finite(text.compile(schema))
}

interface Validate {
  (data: unknown): boolean
  errors?: FastifySchemaValidationError[] | null
}

/** Ajv turns "1e400" and "Infinity" into Infinity, and then skips `maximum`. */
function finite (validate: ValidateFunction): Validate {
  const validateFinite: Validate = data => {
    const isValid = validate(data)
    validateFinite.errors = validate.errors ?? null
    const path = isValid ? pathOfInfinite(data) : undefined
    if (path !== undefined) validateFinite.errors = [{ instancePath: path, schemaPath: '#', keyword: 'finite', params: {}, message: 'must be a finite number' }]
    return isValid && path === undefined
  }
  return validateFinite
}

function pathOfInfinite (value: unknown, path = ''): string | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : path
  if (typeof value !== 'object' || value === null) return undefined
  for (const [name, member] of Object.entries(value)) {
    const found = pathOfInfinite(member, `${path}/${name}`)
    if (found !== undefined) return found
  }
  return undefined
}
