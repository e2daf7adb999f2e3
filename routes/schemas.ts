import { Type, type TSchema } from 'typebox'
import { problems, typeOf, type ProblemType } from '../plugins/errors.ts'
import { serverLimits } from '../plugins/server-options.ts'

/** No NUL and no lone surrogate: JSON can carry them, Postgres stores neither. */
const storable = '^[^\\u0000\\ud800-\\udfff]*$'

export function storableText (options: { minLength?: number, maxLength: number, description?: string }) {
  return Type.String({ pattern: storable, ...options })
}

/** No union, because for `anyOf` the serializer runs a validator for each answer. */
export function nullableText (options: { description?: string } = {}) {
  return Type.Unsafe<string | null>({ type: ['string', 'null'], ...options })
}

export const Sku = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$', maxLength: 64, description: "The product's name in the catalogue" })
export const Currency = Type.String({ pattern: '^[A-Z]{3}$', description: 'ISO 4217' })
export const Money = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'Minor units of the currency' })
// Ajv's format accepts the prefix "urn:uuid:" too, and Postgres does not; maxLength excludes it.
export const Id = Type.String({ format: 'uuid', maxLength: 36 })
export const OrderId = Type.Object({ id: Id })
export const Time = Type.String({ format: 'date-time' })

// For the document: the handlers read these headers themselves. In the document the key is required (plugins/openapi.ts); here it
// is optional, because a missing key has a problem type of its own.
export const idempotencyKey = { 'idempotency-key': Type.Optional(Type.String({ description: '1 to 255 visible ASCII characters, quoted or bare. Required.' })) }
export const ifMatch = { 'if-match': Type.Optional(Type.String({ description: 'The ETag last seen, a list of ETags, or *' })) }
export const ifNoneMatch = { 'if-none-match': Type.Optional(Type.String({ description: 'An ETag, a list of ETags, or *' })) }

const headers = {
  etag: Type.String({ description: 'The version, for If-Match and If-None-Match' }),
  location: Type.String({ description: 'The URL to read it' }),
  'idempotent-replayed': Type.String({ enum: ['true'], description: 'The key was used before: this is the first answer again' }),
  'retry-after': Type.String({ description: 'Seconds' }),
  'www-authenticate': Type.String({ description: 'RFC 6750' })
}

/** An answer with its headers, for the document. */
export function answer<Schema extends TSchema> (schema: Schema, description: string, ...names: Array<keyof typeof headers>): Schema {
  return { ...schema, 'x-response-description': description, ...names.length > 0 && { headers: headersNamed(names) } }
}

export const notModified = answer(Type.Null(), 'It is what If-None-Match names', 'etag')

function headersNamed (names: Array<keyof typeof headers>) {
  return Object.fromEntries(names.map(name => [name, headers[name]]))
}

/** The members of a problem in addition to those of every problem. */
const furtherMembers: Partial<Record<ProblemType, Record<string, TSchema>>> = {
  'invalid-request': {
    errors: Type.Optional(Type.Array(Type.Object({
      in: Type.String({ description: 'body, querystring, params or headers' }),
      path: Type.String({ description: 'JSON pointer to the fault' }),
      message: Type.String()
    }), { description: 'The faults, if they have a place' }))
  },
  'out-of-stock': { sku: Sku },
  'unknown-product': { sku: Sku },
  'price-changed': { expectedTotal: Money, total: Type.Unsafe<number>({ ...Money, description: 'The total now, in minor units' }) },
  'payment-declined': { reason: Type.String({ description: "The gateway's reason" }), payment: Type.String({ format: 'uuid' }) },
  'payment-under-way': { payment: Type.String({ format: 'uuid' }) },
  'not-returnable': { sku: Sku, returnable: Type.Integer({ minimum: 0, description: 'The quantity that can still be returned' }) },
  'not-refundable': { refundable: Type.Optional(Money) },
  'transition-not-allowed': { orderStatus: Type.String({ description: "The order's status" }) }
}

const descriptions: Partial<Record<ProblemType, string>> = {
  'rate-limited': 'One customer sent more requests in a minute than RATE_LIMIT. All instances count together while RATE_LIMIT_STORE is set and reachable; else each counts for itself'
}

/** Every problem as a schema of the document, by its name there. One type has one title and one shape. */
export const problemSchemas = Object.fromEntries(Object.entries(problems).map(([name, { status, title }]) => {
  const type = name as ProblemType
  return [schemaNameOf(type), Type.Object({
    type: Type.Literal(typeOf(type)),
    title: Type.Literal(title),
    // HTTP has a more exact status for some: 413, 415, …
    status: type === 'invalid-request' ? Type.Integer() : Type.Literal(status),
    detail: Type.String({ description: 'What happened, and what was not done' }),
    instance: Type.String({ description: 'The id of the request, as in the log' }),
    ...furtherMembers[type]
  }, { ...descriptions[type] !== undefined && { description: descriptions[type] } })]
}))

/** out-of-stock: OutOfStockProblem. */
function schemaNameOf (type: ProblemType): string {
  return `${type.replace(/(^|-)([a-z])/g, (_match, _hyphen, letter: string) => letter.toUpperCase())}Problem`
}

const headersOf: Partial<Record<number, Array<keyof typeof headers>>> = { 401: ['www-authenticate'], 403: ['www-authenticate'], 429: ['retry-after'], 503: ['retry-after'] }

/** The problems of every route that takes a token. */
const common = ['invalid-request', 'unauthenticated', 'forbidden', 'rate-limited', 'internal-error', 'not-started'] as const satisfies ProblemType[]

type ProblemResponses = Record<400 | 401 | 403 | 429 | 500 | 503, TSchema>

/** The refusals of every route: a body that is too large or encoded, a parameter that is too long, an expectation. */
export function httpResponses () {
  const { 400: invalid } = responsesOf(['invalid-request'])
  const tooLarge = { ...invalid, description: `The body has more than ${serverLimits.bodyLimit} bytes: a problem (RFC 9457)` }
  return { 400: invalid, 413: tooLarge, 414: invalid, 415: invalid, 417: invalid } as unknown as Record<400 | 413 | 414 | 415 | 417, TSchema>
}

/** The problems of a route, with those of every route. */
export function problemResponses (...types: ProblemType[]): ProblemResponses {
  return { ...httpResponses(), ...responsesOf([...common, ...types]) } as unknown as ProblemResponses
}

/** Problems as responses of the document, by status. */
export function responsesOf (types: ProblemType[]) {
  const statuses = new Set(types.map(type => problems[type].status))
  return Object.fromEntries([...statuses].map(status => {
    const schemas = types.filter(type => problems[type].status === status).map(type => ({ $ref: `#/components/schemas/${schemaNameOf(type)}` }))
    const [only, ...others] = schemas
    const names = headersOf[status]
    return [status, {
      description: 'A problem (RFC 9457)',
      ...names !== undefined && { headers: headersNamed(names) },
      content: { 'application/problem+json': { schema: others.length === 0 ? only : { oneOf: schemas } } }
    }]
  }))
}
