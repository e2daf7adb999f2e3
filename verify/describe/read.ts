import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { LineCounter, parseDocument, type Document } from 'yaml'
import { UserError } from '../../user-error.ts'
import { plenty } from '../load/plan.ts'
import type { Description, RequestTemplate } from './description.ts'
import { at } from './pointer.ts'
import { cycle } from './states.ts'
import { pathsIn } from './template.ts'
import { nameOf, validate, type Fault, type Path, type Schema } from './validate.ts'

const schemaFile = resolve(import.meta.dirname, '../description.schema.json')

/**
 * Reads a description, in YAML or JSON.
 *
 * @throws UserError with every fault: its line, its path and a correct example
 */
export function readDescription (file: string): Description {
  const lines = new LineCounter()
  // JSON is YAML.
  const document = parseDocument(readText(file), { lineCounter: lines, prettyErrors: false })
  const lineOf = (offset: number): number => lines.linePos(offset).line
  if (document.errors.length > 0) throw unusable(file, document.errors.map(({ message, pos: [offset] }) => `line ${lineOf(offset)}: ${message}`))

  const content: unknown = document.toJS()
  const faults = validate(content, JSON.parse(readFileSync(schemaFile, 'utf8')) as Schema)
  // A part with a wrong shape cannot be checked any further.
  const more = faults.length > 0 ? [] : meaningless(content as Description, dirname(file))
  if (faults.length + more.length > 0) {
    throw unusable(file, [...faults, ...more].map(({ path, says }) => {
      const offset = offsetOf(document, path)
      return offset === undefined ? says : `line ${lineOf(offset)}: ${says}`
    }))
  }
  return content as Description
}

/** The default of a description. */
export function nameOfFile (file: string): string {
  return basename(file).replace(/\.(ya?ml|json)$/, '')
}

function readText (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UserError(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}. Nothing was started.`)
  }
}

function unusable (file: string, says: readonly string[]): UserError {
  return new UserError(`${file} cannot be used; nothing was started.\n${says.map(line => `  - ${line}`).join('\n')}`)
}

/** The line of the nearest part that exists. */
function offsetOf (document: Document, path: Path): number | undefined {
  for (let length = path.length; length >= 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] | null } | undefined
    if (node?.range != null) return node.range[0]
  }
}

/** Finds parts that have the right shape and no possible meaning. */
function meaningless (description: Description, folder: string): Fault[] {
  return [...faultsOfValues(description), ...faultsOfFiles(description, folder), ...faultsOfParts(description)]
}

/** Values of a run. `*`: anything may follow. */
const ofRun = ['databaseUrl', 'database.host', 'database.port', 'database.user', 'database.password', 'database.name', 'directory', 'products', 'env.*']
const ofInstance = [...ofRun, 'eventsUrl', 'index', 'port', 'opsPort', 'agentPort']
const ofEverybody = ['customer', 'jwt', 'env.*']
const ofOrder = [...ofEverybody, 'id', 'ifMatch']
const ofItem = ['item.sku', 'item.quantity']

/** The values that a part of a description can use. */
const values: ReadonlyArray<readonly [pointer: string, known: readonly string[]]> = [
  ['/start', ofInstance],
  ['/prepare', ofRun],
  ['/catalogue', ['product.sku', 'product.name', 'product.unitPrice', 'product.price', 'product.currency', 'product.stock', 'jwt', 'env.*']],
  ['/headers', ofEverybody],
  ['/jwt', ['customer', 'env.*']],
  ['/requests/place', [...ofEverybody, 'key', 'order', 'order.*', ...ofItem]],
  ...['read', 'pay', 'cancel', 'ship', 'deliver'].map(name => [`/requests/${name}`, ofOrder] as const),
  ['/requests/list', [...ofEverybody, 'cursor']],
  ['/requests/stream', ofEverybody],
  ['/stored', [...ofInstance, 'cursor']]
]

function faultsOfValues (description: Description): Fault[] {
  return values.flatMap(([pointer, known]) => {
    const part = at(description, pointer)
    const path = pointer.slice(1).split('/')
    return [...new Set(pathsIn(part))].filter(taken => !known.some(name => matches(name, taken))).map((taken): Fault => ({
      path,
      says: `${nameOf(path)} takes {{${taken}}}, which is not known there. Known: ${known.map(name => `{{${name.replace('*', '…')}}}`).join(', ')}.`
    }))
  })
}

function matches (name: string, taken: string): boolean {
  return name.endsWith('*') ? taken.startsWith(name.slice(0, -1)) && taken.length >= name.length : name === taken
}

function faultsOfFiles ({ start, prepare = [], stored }: Description, folder: string): Fault[] {
  const missing = (path: Path, name: string | undefined, what: string): Fault[] => {
    if (name === undefined || name.includes('{{') || existsSync(resolve(folder, name))) return []
    return [{ path, says: `${nameOf(path)} is "${name}", and there is no such ${what}: ${resolve(folder, name)}. Its path is relative to this description.` }]
  }
  return [
    ...missing(['start', 'cwd'], start.cwd, 'folder'),
    ...missing(['stored', 'cwd'], stored.cwd, 'folder'),
    ...prepare.flatMap((step, i) => [
      ...'sqlFile' in step ? missing(['prepare', i, 'sqlFile'], step.sqlFile, 'file') : [],
      ...'command' in step ? missing(['prepare', i, 'cwd'], step.cwd, 'folder') : []
    ])
  ]
}

function faultsOfParts (description: Description): Fault[] {
  const {
    requests,
    order,
    list,
    stream,
    consumer,
    features = [],
    jwt,
    postgres = false,
    prepare = [],
    products,
    transitions,
    refusals = {},
    stored
  } = description
  const faults: Fault[] = []
  const add = (path: Path, says: string): void => { faults.push({ path, says }) }
  if (!pathsIn(requests.place).includes('key')) {
    add(['requests', 'place'], 'requests.place does not send {{key}}. By its key an order is known again, for example headers: {"idempotency-key":"{{key}}"}')
  }
  if (jwt === undefined && pathsIn([requests, description.headers, description.catalogue]).includes('jwt')) {
    add(['requests'], '{{jwt}} is taken, and jwt is missing: how it is signed, for example jwt: {"secret":"for this run only"}')
  }
  if (requests.list === undefined && list !== undefined) add(['list'], 'list says where orders are on a page, and requests.list is missing, for example list: {"path":"/orders","query":{"cursor":"{{cursor}}"}}')
  if (list?.next !== undefined && requests.list !== undefined && !pathsIn(requests.list).includes('cursor')) {
    add(['requests', 'list'], 'requests.list does not send {{cursor}}, which list.next is for, for example query: {"cursor":"{{cursor}}"}')
  }
  if (stored.at?.next !== undefined && !pathsIn(stored.http).includes('cursor')) {
    add(['stored', 'at', 'next'], 'stored.http does not send {{cursor}}, which stored.at.next is for, for example query: {"after":"{{cursor}}"}')
  }
  if ((requests.stream === undefined) !== (stream === undefined)) {
    add(requests.stream === undefined ? ['stream'] : ['requests', 'stream'], 'Of requests.stream and stream one is missing: how it is asked for, and where the parts of an event are, for example stream: {"orderId":"/orderId","version":"/version","status":"/type"}')
  }
  if (consumer !== undefined && !pathsIn(description.start).includes('eventsUrl')) {
    add(['start'], 'consumer says where the parts of an event are, and start does not tell the service {{eventsUrl}}, for example env: {"EVENTS_URL":"{{eventsUrl}}"}')
  }
  if (features.includes('if-match') && !pathsIn(requests).includes('ifMatch')) {
    add(['features'], 'features has if-match, and no request sends {{ifMatch}}, for example pay: {"method":"POST","path":"/orders/{{id}}/pay","headers":{"if-match":"{{ifMatch}}"}}')
  }
  for (const name of ['read', 'pay', 'cancel', 'ship', 'deliver'] as const) {
    if (requests[name] !== undefined && !pathsIn(requests[name]).includes('id')) add(['requests', name], `requests.${name} does not send {{id}}, for example path: "/orders/{{id}}"`)
  }
  if (postgres === false) {
    if (stored.sql !== undefined) add(['stored', 'sql'], 'stored.sql is asked of the Postgres that verify starts, and postgres is missing: postgres: true')
    prepare.forEach((step, i) => { if (!('command' in step)) add(['prepare', i], `prepare[${i}] is SQL for the Postgres that verify starts, and postgres is missing: postgres: true`) })
    if (pathsIn([description.start, prepare, stored]).some(path => /^database(Url$|\.)/.test(path))) add(['start'], 'The URL of a database is taken, and postgres is missing: postgres: true')
  }
  if (products !== undefined && !products.some(({ stock = Infinity }) => stock >= plenty)) {
    add(['products'], `products has none that does not run out: one must have a stock of ${plenty} or more, or none named.`)
  }
  const circle = transitions === undefined ? undefined : cycle(transitions)
  if (order.version === undefined && circle !== undefined) {
    add(['transitions'], `transitions go in a circle (${circle.join(' → ')}), so only a version tells how far an order has come, and order.version is missing, for example version: "/version"`)
  }
  for (const [name, refusal] of Object.entries(refusals)) {
    for (const { where = {} } of [refusal].flat().filter(one => typeof one === 'object')) {
      for (const pointer of Object.keys(where)) {
        if (!/^(\/|$)/.test(pointer)) add(['refusals', name], `${nameOf(['refusals', name, 'where'])} has "${pointer}". It takes JSON pointers, for example where: {"/error":"sold out"}`)
      }
    }
  }
  return faults
}

/** Whether requests say which customer sends them. */
export function knowsCustomers ({ requests, headers }: Description): boolean {
  const everywhere: ReadonlyArray<RequestTemplate | undefined> = Object.values(requests)
  return pathsIn([everywhere, headers]).some(path => path === 'customer' || path === 'jwt')
}
