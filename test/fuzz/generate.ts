import { random } from '../../verify/random.ts'
import type { Operation, Parameter, Schema } from './document.ts'

export const kinds = ['valid', 'nearly valid', 'hostile'] as const
export type Kind = typeof kinds[number]

/** What requests can ask for, with the token that made it. It grows with the answers. */
export interface Things {
  orders: Thing[]
  payments: Array<Thing & { order: string }>
  webhooks: Thing[]
}

export interface Thing { id: string, token: string | undefined }

/** Tokens by who holds them. */
export interface Tokens {
  customers: string[]
  staff: string
  refunds: string
  odd: Array<string | undefined>
}

export interface Made {
  number: number
  kind: Kind
  operation: Operation
  method: string
  path: string
  headers: Record<string, string>
  body: string | undefined
  /** Part of all that the request would store, and of nothing else, so that it can be looked for afterwards. */
  mark: string
  /** Whether the path certainly leads to the operation. */
  isRouted: boolean
}

export interface Generator {
  operations: Operation[]
  tokens: Tokens
  things: Things
  seed: number
}

/** The same number and seed make the same request, except for the things that it can choose from. */
export function generate ({ operations, tokens, things, seed }: Generator, number: number): Made {
  const draw = new Draw(random(Math.imul(seed, 0x9e3779b1) ^ number))
  for (let n = 0; n < 3; n++) draw.next()
  const kind = draw.pick(['valid', 'valid', 'nearly valid', 'nearly valid', 'hostile'] as const)
  const operation = draw.chance(0.25) ? operations.find(({ name }) => name === 'POST /orders') ?? draw.pick(operations) : draw.pick(operations)
  const mark = `fuzz-${seed}-${number}`
  const context = { draw, things, mark }

  let path = operation.path
  let isRouted = true
  const { owner, ...values } = pathValues(operation, context)

  const headers: Record<string, string> = {}
  const token = kind === 'hostile' && draw.chance(0.3) ? draw.pick(tokens.odd) : tokenFor(operation, owner, tokens, draw)
  if (token !== undefined) headers.authorization = `Bearer ${token}`
  for (const parameter of operation.parameters.filter(({ in: where }) => where === 'path')) {
    const spoilt = kind === 'hostile' ? draw.chance(0.4) : kind === 'nearly valid' && draw.chance(0.1)
    if (spoilt) isRouted = false
    path = path.replace(`{${parameter.name}}`, () => spoilt ? draw.pick(hostilePaths) : encodeURIComponent(values[parameter.name] ?? text(parameter.schema ?? {}, parameter.name, context)))
  }

  const query = operation.parameters.filter(({ in: where }) => where === 'query').flatMap(parameter => queryOf(parameter, kind, context))
  if (kind === 'hostile' && draw.chance(0.1)) query.push(draw.pick(hostileQueries))
  if (query.length > 0) path += `?${query.join('&')}`

  for (const parameter of operation.parameters.filter(({ in: where }) => where === 'header')) {
    const value = headerOf(parameter, kind, context)
    if (value !== undefined) headers[parameter.name] = value
  }

  let body: string | undefined
  if (operation.body !== undefined) {
    body = bodyOf(operation.body, kind, context)
    headers['content-type'] = 'application/json'
  } else if (kind !== 'valid' && operation.method !== 'GET' && draw.chance(0.3)) {
    body = draw.pick(['', '{}', 'null', '[', '{"a":1}'])
    headers['content-type'] = 'application/json'
  }

  let { method } = operation
  if (kind === 'hostile') {
    for (const [name, odd] of Object.entries(oddHeaders)) if (draw.chance(0.04)) headers[name] = draw.pick(odd)
    if (draw.chance(0.05)) method = draw.pick(oddMethods)
    if (method !== operation.method) isRouted = false
  }
  return { number, kind, operation, method, path, headers, body, mark, isRouted }
}

/** A command that sends the request again. */
export function asCurl ({ method, path, headers, body }: Made, origin = '$URL'): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`
  return [`curl -i --path-as-is -X ${method} ${quoted(origin + path)}`, ...Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`), ...body === undefined ? [] : [`--data-binary ${quoted(body.length > 2_000 ? `${body.slice(0, 2_000)}… (${body.length} characters)` : body)}`]].join(' ')
}

interface Context { draw: Draw, things: Things, mark: string }

/** Products in orders. A few have another currency, are nearly sold out, or do not exist. */
const plenty = Array.from({ length: 20 }, (_, index) => `fuzz-${index}`)
const sold = [...plenty, 'few', 'rich', 'bourbon', 'none']
/** Products that staff changes and withdraws. Only a few of them are in orders, or soon no order would be placed. */
const skus = [...Array.from({ length: 20 }, (_, index) => `fuzzed-${index}`), ...sold.slice(18)]

/** The catalogue at the start, as values of SQL. */
export const catalogue = [...plenty.map(sku => `('${sku}', 'Pint of ale', 5, 'EUR', 1000000000)`), "('few', 'The last ones', 1, 'EUR', 3)", "('rich', 'All of the cellar', 9007199254740991, 'EUR', 1000000)", "('bourbon', 'Shot of bourbon', 900, 'USD', 1000000)"].join(', ')

export class Draw {
  readonly next: () => number

  constructor (next: () => number) {
    this.next = next
  }

  chance (share: number): boolean {
    return this.next() < share
  }

  /** An integer from 0 to below `bound`. */
  below (bound: number): number {
    return Math.floor(this.next() * bound)
  }

  pick<Value> (values: readonly Value[]): Value {
    const value = values[this.below(values.length)]
    if (value === undefined && values.length === 0) throw new Error('There is nothing to pick from.')
    return value as Value
  }
}

function tokenFor ({ name }: Operation, owner: string | undefined, { customers, staff, refunds }: Tokens, draw: Draw): string {
  if (draw.chance(0.1)) return draw.pick([...customers, staff, refunds])
  if (/^(PUT|DELETE) \/products|\/stock$|\/(ship|deliver)$|^POST .*\/returns$/.test(name)) return staff
  return name.endsWith('/refunds') ? refunds : owner ?? draw.pick(customers)
}

/** Picks things that exist, so that most requests find something. */
function pathValues ({ path }: Operation, { draw, things: { orders, payments, webhooks } }: Context): Record<string, string | undefined> {
  const some = (all: Thing[]): Thing => all.length === 0 || draw.chance(0.05) ? { id: uuid(draw), token: undefined } : draw.pick(all)
  if (path.startsWith('/products/')) return { sku: draw.pick(skus) }
  if (path.startsWith('/webhooks/')) {
    const { id, token: owner } = some(webhooks)
    return { owner, id, delivery: uuid(draw) }
  }
  if (path.includes('{payment}') && payments.length > 0) {
    const { id: payment, order: id, token: owner } = draw.pick(payments)
    return { owner, id, payment }
  }
  const { id, token: owner } = some(orders)
  return { owner, id, payment: uuid(draw) }
}

function uuid (draw: Draw): string {
  return '00000000-0000-7000-8000-000000000000'.replaceAll('0', () => draw.below(16).toString(16))
}

function queryOf ({ name, required, schema = {} }: Parameter, kind: Kind, context: Context): string[] {
  const { draw } = context
  if (required !== true && draw.chance(0.6)) return []
  const value = kind === 'valid' || draw.chance(0.4) ? String(sample(schema, name, context)) : String(draw.pick([...boundaries(schema), ...nasty]))
  const pair = `${name}=${encoded(value)}`
  return kind === 'hostile' && draw.chance(0.1) ? [pair, pair] : [pair]
}

function headerOf ({ name, schema = {} }: Parameter, kind: Kind, context: Context): string | undefined {
  const { draw, mark } = context
  if (name === 'idempotency-key') return kind === 'valid' || draw.chance(0.8) ? mark : draw.pick(['', 'a b', 'a,b', '"', '"a"b"', 'x'.repeat(256), '\xe9', "'"])
  if (draw.chance(kind === 'valid' ? 0.8 : 0.4)) return undefined
  if (name.startsWith('if-')) return draw.pick(kind === 'valid' ? ['*', '"1"', '"2"', '"1", "2"'] : ['W/"1"', '1', '', '"', '"x"', '"9999999999"', '"1"'.repeat(200), '"\xe9"'])
  if (name === 'last-event-id') return draw.pick(kind === 'valid' ? [''] : ['x', '1.2.3', '9'.repeat(30), `1.${uuid(draw)}.1`, `9223372036854775808.${uuid(draw)}.1`])
  return kind === 'valid' ? text(schema, name, context) : draw.pick(['', 'x', 'x'.repeat(300)])
}

function bodyOf (schema: Schema, kind: Kind, context: Context): string {
  const { draw } = context
  const value = sample(schema, '', context)
  if (kind === 'valid') return JSON.stringify(value)
  const spoilt = spoil(value, schema, context)
  if (kind === 'nearly valid') return JSON.stringify(spoilt)
  const json = JSON.stringify(draw.chance(0.5) ? spoilt : value)
  switch (draw.below(8)) {
    case 0: return json.slice(0, draw.below(json.length))
    case 1: return json + draw.pick(['x', '}', '\0', json])
    case 2: return json.replace(/\d+/, () => draw.pick(numbers))
    case 3: return json.replace(/"[^"]*"(?=[,}\]])/, () => draw.pick(['"\\u0000"', '"\\ud800"', '[[[[]]]]', '{"__proto__":{"x":1}}', 'NaN', '"\\x"', '1e400']))
    case 4: return json.replace('{', () => draw.pick(['{"__proto__":{"x":1},', '{"constructor":{"prototype":{"x":1}},', '{"id":"x",', '{"customer":"other",', '{"":1,']))
    case 5: return draw.pick(['', ' ', 'null', '[]', '"x"', '1', 'true', '\ufeff' + json, json.replaceAll('"', "'")])
    case 6: return draw.pick([`${'['.repeat(20_000)}`, '{"a":'.repeat(10_000), `{${Array.from({ length: 5_000 }, (_, index) => `"k${index % 10}":${index}`).join(',')}}`, JSON.stringify('x'.repeat(70_000))])
    default: return json.replaceAll(/[{}[\]":,]/g, character => draw.chance(0.05) ? '' : character)
  }
}

/** A value that fits the schema, or nearly. By the names of this API, it chooses what can be found. */
function sample (schema: Schema, name: string, context: Context): unknown {
  const { draw } = context
  const choice = schema.anyOf ?? schema.oneOf
  if (choice !== undefined) return sample(draw.pick(choice), name, context)
  if (schema.enum !== undefined) return draw.pick(schema.enum)
  const type = Array.isArray(schema.type) ? draw.pick(schema.type) : schema.type
  switch (type) {
    case 'object': return Object.fromEntries(Object.entries(schema.properties ?? {})
      // Hardly any guessed total is right.
      .filter(([property]) => schema.required?.includes(property) === true || draw.chance(property === 'expectedTotal' ? 0.05 : 0.4))
      .map(([property, part]) => [property, sample(part, property, context)]))
    case 'array': {
      const items = Array.from({ length: Math.max(schema.minItems ?? 0, 1 + draw.below(3)) }, () => sample(schema.items ?? {}, name, context))
      // The same product twice is a fault of its own.
      return draw.chance(0.05) ? items : [...new Map(items.map(item => [typeof item === 'object' && item !== null && 'sku' in item ? item.sku : item, item])).values()]
    }
    case 'integer':
    case 'number': {
      const { minimum = 0, maximum = 1_000 } = schema
      return draw.chance(0.03) ? draw.pick([minimum, maximum]) : Math.min(maximum, Math.max(minimum, 1 + draw.below(5)))
    }
    case 'boolean': return draw.chance(0.5)
    case 'null': return null
    default: return text(schema, name, context)
  }
}

function text ({ format, maxLength = 40, pattern }: Schema, name: string, { draw, mark }: Context): string {
  if (format === 'uuid') return uuid(draw)
  if (format === 'date-time' || name === 'from' || name === 'to') return new Date(Date.UTC(2026, draw.below(12), 1 + draw.below(28))).toISOString()
  if (name === 'sku') return draw.pick(sold)
  if (name === 'currency') return draw.chance(0.95) ? 'EUR' : 'USD'
  if (name === 'url') return `https://hooks.example/${mark}`
  if (name === 'cursor') return Buffer.from(Array.from({ length: 16 }, () => draw.below(256))).toString('base64url').slice(0, pattern?.includes('22') === true ? 22 : undefined)
  return mark.slice(0, maxLength)
}

/** Makes one part of the value wrong, or puts it at its bound. */
function spoil (value: unknown, schema: Schema, context: Context): unknown {
  const { draw } = context
  if (Array.isArray(value)) {
    if (draw.chance(0.2)) return draw.pick([[], [...value, ...value], Array.from({ length: (schema.maxItems ?? 100) + 1 }, () => value[0]), null, {}])
    const index = draw.below(value.length)
    return value.map((item, at) => at === index ? spoil(item, schema.items ?? {}, context) : item)
  }
  if (typeof value === 'object' && value !== null) {
    const names = Object.keys(value)
    if (names.length === 0 || draw.chance(0.2)) return { ...value, [draw.pick(['note', '__proto__x', 'constructor', 'id', 'total'])]: draw.pick([1, null, 'x', {}]) }
    const name = draw.pick(names)
    const { [name]: member, ...rest } = value as Record<string, unknown>
    if (draw.chance(0.2)) return rest
    return { ...rest, [name]: spoil(member, schema.properties?.[name] ?? {}, context) }
  }
  return draw.pick(boundaries(schema))
}

function boundaries ({ minimum, maximum, minLength, maxLength, enum: values }: Schema): unknown[] {
  return [
    ...minimum === undefined ? [] : [minimum, minimum - 1],
    ...maximum === undefined ? [] : [maximum, maximum + 1],
    ...minLength === undefined ? [] : ['x'.repeat(minLength), 'x'.repeat(Math.max(0, minLength - 1))],
    ...maxLength === undefined ? [] : ['x'.repeat(maxLength), 'x'.repeat(maxLength + 1), '🍺'.repeat(maxLength)],
    ...values === undefined ? [] : [`${String(values[0])}x`],
    null, '', true, 1.5, -1, '1', [], {}, Number.MAX_SAFE_INTEGER
  ]
}

/** Replaces lone surrogates, because a URL cannot hold them. */
function encoded (value: string): string {
  return encodeURIComponent(value.toWellFormed())
}

const nasty = ['', ' ', '\0', 'a\0b', '🍺', '\u202eevil', "'; DROP TABLE orders;--", '../../etc/passwd', '%00', '{{7*7}}', '<script>', 'x'.repeat(300), '\r\nX: y', 'null', '__proto__', 'constructor', '1e400', '-1', 'ＡＢＣ', 'NaN', '\u2028', '\ufeff']
const numbers = ['0', '-0', '-1', '1.0', '1e2', '1e400', '-1e400', '9007199254740991', '9007199254740993', '2000000001', '2147483648', '1e-400', '123456789012345678901234567890', 'null', 'true', '"1"', '[]', '0x10', '01', '+1', '.5']
const hostilePaths = ['', 'x', '%00', '%ff', '%', '%F0%9F%8D%BA', '..', '../..', '..%2f..%2f', '.', ';a=b', '%0d%0aX:y', 'a'.repeat(101), 'urn:uuid:00000000-0000-7000-8000-000000000000', '__proto__', '-a', 'a%20b', '*', '~']
const hostileQueries = ['__proto__=1', 'a[b]=c', '%', '%ff=%ff', '&&&', '=', `x=${'y'.repeat(5_000)}`, 'limit=1&limit=2', 'cursor']
const oddMethods = ['HEAD', 'OPTIONS', 'TRACE', 'PATCH', 'PUT', 'DELETE', 'GET', 'POST', 'PROPFIND', 'QUERY']
const oddHeaders: Record<string, string[]> = {
  'content-type': ['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-16', 'application/JSON', 'application/json;', 'multipart/form-data', ''],
  'content-encoding': ['gzip', 'identity', 'x', 'br, gzip'],
  expect: ['x', '200-ok'],
  upgrade: ['h2c', 'websocket'],
  'if-match': ['"1"', '*', 'x'],
  'if-none-match': ['*', 'x'],
  'last-event-id': ['x'],
  range: ['bytes=0-1'],
  origin: ['https://evil.example', 'null'],
  host: ['', 'a b', 'evil.example', '[::1]', 'a,b'],
  'x-forwarded-for': ['127.0.0.1', "'; --"],
  traceparent: ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'x'],
  'x-http-method-override': ['DELETE'],
  prefer: ['respond-async', 'x']
}
