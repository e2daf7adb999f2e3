import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { parseArgs } from 'node:util'
import { UserError } from '../user-error.ts'
import { wordsOf } from './words.ts'

export const fieldTypes = ['text', 'int', 'bool'] as const
export type FieldType = typeof fieldTypes[number]

/** A field of the resource in addition to those of an order. */
export interface Field {
  /** In camel case, as in JSON. */
  name: string
  /** In snake case, as in SQL. */
  column: string
  type: FieldType
}

export const parts = ['verify', 'bench', 'deploy'] as const
export type Part = typeof parts[number]

export interface ForkOptions {
  /** The fork's folder: absolute, and new or empty. */
  directory: string
  /** The name of the service, in kebab case. */
  name: string
  /** Replaces an order; in the singular and lower case. */
  resource: string
  plural: string
  fields: Field[]
  without: Part[]
}

export const help = `Makes a service of your own from this one.

npm run fork -- DIR [--resource booking] [--fields 'room:text,nights:int'] [--name my-service] [--plural bookings] [--without verify,bench,deploy]

  DIR          the new folder; it must not exist yet, or be empty
  --resource   the resource in place of orders: one lower-case word in the singular
  --fields     its fields in addition to those of an order: name:type, separated by commas; types: ${fieldTypes.join(', ')}.
               Each is optional in a request, and null if the request leaves it out
  --name       the name of the service; default: the last part of DIR
  --plural     the plural of the resource, if it is irregular
  --without    parts to leave out, with their dependencies: ${parts.join(', ')}

Without --resource, it asks questions.`

/** Every fault of the arguments at once. */
export class ForkError extends UserError {
  constructor (faults: string[]) {
    super(`${faults.map(fault => `  - ${fault}`).join('\n')}\nNothing was made. npm run fork -- --help shows the arguments.`)
    this.name = 'ForkError'
  }
}

/**
 * Reads the options from the arguments, or asks for them at a terminal.
 *
 * @returns undefined for --help
 * @throws ForkError
 */
export async function readArguments (given: string[]): Promise<ForkOptions | undefined> {
  const { values, positionals } = parse(given)
  if (values.help) return undefined
  const asks = values.resource === undefined && process.stdin.isTTY
  const answers = asks ? await ask(positionals[0]) : { directory: positionals[0], resource: values.resource, fields: values.fields, without: values.without }
  return judge({ ...values, ...answers, more: positionals.slice(1) })
}

function parse (given: string[]) {
  try {
    return parseArgs({
      args: given,
      allowPositionals: true,
      options: {
        resource: { type: 'string' },
        fields: { type: 'string' },
        name: { type: 'string' },
        plural: { type: 'string' },
        without: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false }
      }
    })
  } catch (error) {
    throw new ForkError([error instanceof Error ? error.message : String(error)])
  }
}

interface Asked {
  directory: string | undefined
  resource: string | undefined
  fields: string | undefined
  without: string | undefined
}

async function ask (directory: string | undefined): Promise<Asked> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const question = async (text: string): Promise<string | undefined> => (await terminal.question(text)).trim() || undefined
  try {
    return {
      directory: directory ?? await question('Which folder? (a new one, such as ../bookings) '),
      resource: await question('Which resource replaces an order? (one word in the singular, such as booking) '),
      fields: await question(`Which fields does it have in addition to those of an order? (such as room:text,nights:int; types: ${fieldTypes.join(', ')}; none: Enter) `),
      without: await question(`Which parts should be left out? (${parts.join(', ')}; none: Enter) `)
    }
  } finally {
    terminal.close()
  }
}

/** @throws ForkError with all faults */
export function judge ({ directory, resource, fields = '', without = '', name, plural, more = [] }: Asked & { name?: string | undefined, plural?: string | undefined, more?: string[] }): ForkOptions {
  const faults: string[] = []
  if (more.length > 0) faults.push(`Only one folder is allowed; ${more.map(other => `"${other}"`).join(', ')} is too much.`)
  const at = resolve(directory ?? '')
  if (directory === undefined) faults.push('No folder is named: npm run fork -- DIR')
  else if (existsSync(at) && !(statSync(at).isDirectory() && readdirSync(at).length === 0)) faults.push(`${at} exists, and is not an empty folder.`)

  if (resource === undefined) faults.push('No resource is named: --resource booking')
  else faults.push(...faultsOfResource(resource))
  const pluralOfIt = plural ?? pluralOf(resource ?? 'x')
  if (plural !== undefined && !/^[a-z]{2,40}$/.test(plural)) faults.push(`--plural is "${plural}"; it takes one word of lower-case letters.`)
  if (pluralOfIt === resource) faults.push(`The plural is the same word, "${pluralOfIt}"; name another one with --plural.`)

  const nameOfIt = name ?? basename(at).toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '')
  if (directory !== undefined && !/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(nameOfIt)) faults.push(`The service cannot be called "${nameOfIt}"; name it with --name, in lower-case letters, digits and dashes, as my-service.`)

  const read = fieldsOf(fields, resource)
  const unwanted = without.split(',').map(part => part.trim()).filter(part => part !== '')
  const unknown = unwanted.filter(part => !isPart(part))
  if (unknown.length > 0) faults.push(`--without takes ${parts.join(', ')}; not ${unknown.join(', ')}.`)
  faults.push(...read.faults)
  if (faults.length > 0 || resource === undefined) throw new ForkError(faults)
  return { directory: at, name: nameOfIt, resource, plural: pluralOfIt, fields: read.fields, without: unwanted.filter(isPart) }
}

/** Words that have a meaning of their own in this service, in SQL or in TypeScript. */
const taken = new Set([
  'order', 'product', 'stock', 'item', 'payment', 'refund', 'return', 'webhook', 'delivery', 'event', 'outbox', 'lease', 'epoch', 'stop', 'total', 'customer', 'currency', 'reference', 'expiry', 'ledger', 'endpoint', 'change',
  'plugin', 'route', 'test', 'doc', 'auth', 'contract', 'tracing', 'prisma', 'config', 'app', 'server', 'problem', 'error', 'request', 'reply', 'response', 'query', 'body', 'header', 'batch', 'commit', 'pending', 'outcome', 'client', 'subject', 'intake', 'relay', 'feed', 'stream', 'store', 'settle', 'attempt', 'failure', 'publisher', 'drain', 'probe', 'metric', 'health', 'fleet', 'report', 'load', 'traffic', 'registry', 'agent', 'key', 'token', 'scope', 'state', 'status', 'version', 'time', 'line', 'page', 'cursor',
  'user', 'table', 'group', 'select', 'from', 'where', 'index', 'check', 'column', 'row', 'set', 'value', 'view', 'role', 'grant', 'limit', 'offset', 'session', 'transaction', 'class', 'default', 'function', 'delete', 'new', 'string', 'number', 'boolean', 'object', 'symbol', 'type', 'interface', 'enum', 'import', 'export', 'case', 'switch', 'package', 'module', 'map', 'array', 'promise', 'date', 'any', 'all', 'end', 'do', 'in', 'is', 'as', 'for', 'if'
])

function faultsOfResource (resource: string): string[] {
  if (!/^[a-z]{2,40}$/.test(resource)) return [`--resource is "${resource}"; it takes one word of lower-case letters in the singular, as booking.`]
  if (taken.has(resource)) return [`--resource is "${resource}", which means something else here already; take another word.`]
  return []
}

/** Names that a field of an order, or of a line of it, has already; in requests, answers and in the batch. */
const takenFields = new Set(['id', 'customer', 'status', 'currency', 'items', 'total', 'reference', 'references', 'version', 'createdAt', 'replays', 'fingerprint', 'idempotencyKey', 'payment', 'expectedTotal', 'expectedTotals', 'sku', 'quantity', 'unitPrice', 'ids', 'customers', 'keys', 'key', 'fingerprints', 'currencies', 'traces', 'lineOrders', 'linePositions', 'lineSkus', 'lineQuantities', 'traceparent', 'n', 'unknownSku', 'times', 'expected'])
const reserved = new Set(['break', 'case', 'catch', 'class', 'const', 'continue', 'debugger', 'default', 'delete', 'do', 'else', 'enum', 'export', 'extends', 'false', 'finally', 'for', 'function', 'if', 'implements', 'import', 'in', 'instanceof', 'interface', 'let', 'new', 'null', 'package', 'private', 'protected', 'public', 'return', 'static', 'super', 'switch', 'this', 'throw', 'true', 'try', 'typeof', 'var', 'void', 'while', 'with', 'yield', 'await', 'arguments', 'eval', 'undefined', 'request', 'reply', 'result', 'twice', 'intake', 'store', 'app', 'asked', 'hash'])

function fieldsOf (text: string, resource: string | undefined): { fields: Field[], faults: string[] } {
  const faults: string[] = []
  const fields: Field[] = []
  for (const part of text.split(',').map(part => part.trim()).filter(part => part !== '')) {
    const [, name, type] = /^([a-z][A-Za-z0-9]*|[a-z][a-z0-9]*(?:_[a-z0-9]+)+):(\w+)$/.exec(part) ?? []
    const known = fieldTypes.find(known => known === type)
    if (name === undefined || name.length > 40) {
      faults.push(`--fields has "${part}"; a field is name:type, as nights:int, and its name is at most 40 letters and digits that begin with a lower-case letter.`)
    } else if (known === undefined) {
      faults.push(`--fields has "${part}"; a type is one of ${fieldTypes.join(', ')}.`)
    } else {
      const camel = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
      if (takenFields.has(camel) || reserved.has(camel) || camel === resource) faults.push(`--fields has "${camel}", which is the name of something else already; take another.`)
      else if (wordsOf({ name: '', resource: 'x', plural: 'xs' }).inText(camel) !== camel) faults.push(`--fields has "${camel}", and every "order" becomes "${resource ?? 'the resource'}"; take another name.`)
      else if (fields.some(field => field.name === camel)) faults.push(`--fields has "${camel}" twice.`)
      else fields.push({ name: camel, column: camel.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`), type: known })
    }
  }
  return { fields, faults }
}

function pluralOf (word: string): string {
  if (/[^aeiou]y$/.test(word)) return word.replace(/y$/, 'ies')
  return /(?:s|x|z|ch|sh)$/.test(word) ? `${word}es` : `${word}s`
}

function isPart (part: string): part is Part {
  return parts.some(known => known === part)
}
