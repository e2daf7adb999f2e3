import addFormats from 'ajv-formats'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import type pg from 'pg'
import type { Document } from './document.ts'
import type { Made } from './generate.ts'

export interface Answered {
  status: number
  /** The media type without its parameters. */
  type: string
  text: string
}

/** What the answer says: that the request did something, that it did nothing, or neither. */
export type Outcome = 'done' | 'refused' | 'unknown'

/** Statuses of a request that reaches no route; 503 under pressure and in a stop. */
const unrouted = new Set([400, 404, 413, 414, 415, 417, 431, 503])

/** Checks what must hold for every answer. */
export class Judge {
  readonly #document: Document
  readonly #ajv = new Ajv2020({ strict: false })
  readonly #validators = new Map<string, ValidateFunction>()

  constructor (document: Document) {
    this.#document = document
    addFormats.default(this.#ajv)
    this.#ajv.addSchema({ $id: 'document', components: document.components })
  }

  /** What is wrong with the answer; undefined if nothing is. */
  faultOf ({ method, operation, isRouted }: Made, { status, type, text }: Answered): string | undefined {
    if (status >= 500 && status !== 503) return `it is a ${status}`
    if (/node_modules|\bat (file:|.*\.[jt]s:\d)/.test(text)) return 'it shows a stack'
    // An answer to HEAD has no body to look at.
    if (method === 'HEAD') return undefined
    if (status >= 400 && type !== 'application/problem+json' && !operation.path.endsWith('z')) return `it is a ${status} of the type ${type}, and no problem`

    const described = this.#document.paths[operation.path]?.[method.toLowerCase()]?.responses[status]
    // A path that was made up may lead to a route all the same: then its own problems are right, too.
    if (!isRouted && unrouted.has(status)) {
      const fault = this.#problemFault(status, text)
      if (fault === undefined || described === undefined) return fault
    }
    if (described === undefined) return `a ${status} is not in the document`
    if (described.content === undefined || type === 'text/event-stream') return text === '' || type === 'text/event-stream' ? undefined : 'it has a body that is not in the document'
    const { schema } = described.content[type] ?? {}
    if (schema === undefined) return text === '' && (status === 204 || status === 304) ? undefined : `its type ${type} is not in the document`
    return this.#schemaFault(`${method} ${operation.path} ${status} ${type}`, schema, text)
  }

  #problemFault (status: number, text: string): string | undefined {
    const schema = { anyOf: ['InvalidRequestProblem', 'NotFoundProblem', 'NotStartedProblem'].map(name => ({ $ref: `#/components/schemas/${name}` })), properties: { status: { const: status } } }
    return this.#schemaFault(`problem ${status}`, schema, text)
  }

  #schemaFault (name: string, schema: object, text: string): string | undefined {
    let validate = this.#validators.get(name)
    if (validate === undefined) {
      validate = this.#ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"document#/')) as object)
      this.#validators.set(name, validate)
    }
    let body: unknown
    try {
      body = JSON.parse(text)
    } catch {
      return 'it is not JSON'
    }
    return validate(body) ? undefined : `it does not match its schema: ${this.#ajv.errorsText(validate.errors)}`
  }
}

export function outcomeOf ({ status, text }: Answered): Outcome {
  if (status < 400) return 'done'
  return text.includes('/problems/outcome-unknown') ? 'unknown' : 'refused'
}

/** A request that could store something, and its outcome. */
export interface AnsweredRequest { made: Made, outcome: Outcome, id: string | undefined }

/**
 * What is stored although its request was refused, and what is missing although it was acknowledged.
 *
 * @param requests all but the reads
 */
export async function storedFaults (sql: pg.Pool, requests: readonly AnsweredRequest[]): Promise<string[]> {
  const byMark = new Map(requests.map(entry => [entry.made.mark, entry]))
  const faults: string[] = []

  // By id, because many requests share a key that is no mark.
  const acknowledged = new Set(requests.flatMap(({ made, outcome, id }) => made.operation.name === 'POST /orders' && outcome === 'done' && id !== undefined ? [id] : []))
  const unknownKeys = new Set(requests.flatMap(({ made, outcome }) => outcome === 'unknown' ? [made.headers['idempotency-key']?.replaceAll('"', '') ?? ''] : []))
  const { rows: orders } = await sql.query<{ id: string, key: string }>('SELECT id, idempotency_key AS key FROM orders')
  for (const { id, key } of orders) if (!acknowledged.has(id) && !unknownKeys.has(key)) faults.push(`order ${id} is stored, and its request ${key} was refused`)
  const stored = new Set(orders.map(({ id }) => id))
  for (const id of acknowledged) if (!stored.has(id)) faults.push(`order ${id} was acknowledged, and is missing`)

  for (const [what, query] of Object.entries(marked)) {
    const { rows } = await sql.query<{ mark: string }>(query)
    for (const { mark } of rows) if (byMark.get(mark)?.outcome === 'refused') faults.push(`${what} ${mark} is stored, and its request was refused`)
  }

  const moved = new Set(requests.flatMap(({ made: { operation, path }, outcome }) => {
    const [, id = '', verb = ''] = /^\/orders\/([^/]+)\/(pay|ship|deliver|cancel)(?:\?|$)/.exec(path) ?? []
    return outcome === 'refused' || !operation.path.startsWith('/orders/{id}/') ? [] : [`${id} ${verb}`]
  }))
  const { rows: events } = await sql.query<{ id: string, type: string }>('SELECT order_id AS id, type::text FROM outbox')
  for (const { id, type } of events) {
    const verb = verbs[type]
    if (verb !== undefined && !moved.has(`${id} ${verb}`)) faults.push(`order ${id} is ${type}, and every request for that was refused`)
  }
  return faults
}

const verbs: Record<string, string> = { paid: 'pay', shipped: 'ship', delivered: 'deliver', cancelled: 'cancel' }

const marked = {
  product: "SELECT name AS mark FROM products WHERE name LIKE 'fuzz-%'",
  'change of a stock': 'SELECT idempotency_key AS mark FROM stock_changes',
  refund: 'SELECT idempotency_key AS mark FROM refunds WHERE idempotency_key IS NOT NULL',
  return: 'SELECT idempotency_key AS mark FROM order_returns',
  webhook: "SELECT replace(url, 'https://hooks.example/', '') AS mark FROM webhook_endpoints"
}
