import { Type, type TSchema } from 'typebox'

/** No NUL and no lone surrogate: JSON can carry them, Postgres stores neither. */
const storable = '^[^\\u0000\\ud800-\\udfff]*$'

export function storableText (options: { minLength?: number, maxLength: number, description?: string }) {
  return Type.String({ pattern: storable, ...options })
}

/** Not a union: for `anyOf` the serializer runs a validator for each answer. */
export function nullableText (options: { description?: string } = {}) {
  return Type.Unsafe<string | null>({ type: ['string', 'null'], ...options })
}

export const Sku = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$', maxLength: 64, description: 'What the catalogue calls the product' })
export const Currency = Type.String({ pattern: '^[A-Z]{3}$', description: 'ISO 4217' })
export const Money = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Minor units of the currency' })

const Problem = Type.Object({
  type: Type.String({ description: 'Ends in the kind of problem, which stays the same' }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String({ description: 'What happened, and what was not done' }),
  instance: Type.String({ description: 'The id of the request, as in the log' })
}, { $id: 'Problem' })

/** The answers that a route gives beside its own, each as a problem. */
export function problemResponses<const Status extends number> (...statuses: Status[]) {
  const response = { description: 'A problem (RFC 9457)', content: { 'application/problem+json': { schema: Problem } } }
  return Object.fromEntries(statuses.map(status => [status, response])) as Record<Status, typeof response & TSchema>
}
