import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import pg from 'pg'
import { UserError } from '../../user-error.ts'
import { isOnOrder } from '../history.ts'
import { onlyCustomer } from '../load/plan.ts'
import { plentiful, products as usualProducts } from '../products.ts'
import { findPostgres } from '../postgres/find.ts'
import { withClient } from '../../postgres/with-client.ts'
import type { Answer, Instance, Operation, OrderAnswered, OrderAsked, Product, Request, Run, Target, Understood } from '../target.ts'
import type { Description, Refusal, RequestTemplate } from './description.ts'
import { decimalsOf, idOf, numberAt, Orders, present } from './orders.ts'
import { at } from './pointer.ts'
import { knowsCustomers, nameOfFile, readDescription } from './read.ts'
import { requestOf, signer } from './requests.ts'
import { States } from './states.ts'
import { environmentOf, readStored, runProgram } from './stored.ts'
import { fillText, text, type Values } from './template.ts'

/** Handles answers that no rule of the description covers. A 404 to a new order may mean a wrong path, so it is no answer to the order. */
const usualRefusals: Readonly<Record<number, { readonly problem: string, readonly notOf?: Operation['kind'] }>> = {
  400: { problem: 'invalid-request' },
  404: { problem: 'not-found', notOf: 'place' },
  412: { problem: 'version-mismatch' },
  429: { problem: 'rate-limited' }
}

/** Makes a target from a description in YAML or JSON. @throws UserError with every fault of the description */
export function describedTarget (file: string): Target {
  return targetOf(readDescription(file), file)
}

export function targetOf (description: Description, file: string): Target {
  const {
    name = nameOfFile(file),
    start,
    limits,
    postgres = false,
    catalogue,
    requests,
    headers,
    replayed,
    stream,
    consumer,
    features = [],
    stored,
    order,
    list
  } = description
  const folder = dirname(file)
  const products = description.products?.map((product): Product => ({ name: product.sku, stock: plentiful, ...product })) ?? usualProducts
  const states = new States(description.states, description.transitions)
  const orders = new Orders(description, states, products)
  const sign = description.jwt && signer(description.jwt)
  const hasCustomers = knowsCustomers(description)
  // The service lacks what the description cannot express.
  const templates: Partial<Record<Operation['kind'], RequestTemplate>> = requests
  const byLocation = order.id === 'Location'
  const placed = new Map<string, OrderAsked>()
  let url = ''

  const valuesOf = (operation: Operation | { readonly customer: string }): Values => ({
    ...operation,
    env: process.env,
    ...sign && { jwt: sign(operation.customer) }
  })

  function request (operation: Operation): Request | undefined {
    const template = templates[operation.kind]
    return template === undefined ? undefined : requestOf(template, headers, valuesOf(operation))
  }

  function understand (operation: Operation, answer: Answer): Understood {
    const { status, headers, body } = answer
    const content = parsed(body)
    if (status < 200 || status >= 300) return refused(operation, status, content)
    if (operation.kind === 'list') return page(content)
    if (operation.kind !== 'place' && !isOnOrder(operation)) return { type: 'ok' }
    const told = at(content, order.at ?? '')
    // Many services answer a transition without a body.
    if (operation.kind !== 'place' && operation.kind !== 'read' && !byLocation && (told === undefined || at(told, order.id) === undefined)) return { type: 'ok' }
    const answered = orders.answered(told, operation.kind === 'place'
      ? { asked: operation.order, status: 'placed', ...byLocation && { id: idInLocation(answer) } }
      : { asked: placed.get(operation.id), ...byLocation && { id: operation.id } })
    // If answers do not show the contents of an order, the request stands for them.
    if (operation.kind === 'place' && order.items === undefined && answered !== undefined) placed.set(answered.id, operation.order)
    return { type: 'ok', ...answered && { order: answered }, ...stated('etag', headers), ...stated('location', headers), ...replayed !== undefined && isReplay(answer, replayed.header) && { replayed: true } }
  }

  function stated (name: 'etag' | 'location', headers: Answer['headers']): Pick<Understood, 'etag' | 'location'> {
    const value = headers[name]
    return typeof value === 'string' && features.includes(name) ? { [name]: value } : {}
  }

  function page (content: unknown): Understood {
    const found = present(content, list?.orders ?? '', 'list.orders')
    if (!Array.isArray(found)) throw new UserError(`What list.orders finds is no array: ${JSON.stringify(found).slice(0, 300)}`)
    const next = list?.next === undefined ? undefined : at(content, list.next)
    const ids = found.map(one => idOf(present(one, list?.id ?? (byLocation ? '/id' : order.id), 'list.id')))
    const shown = found.map((one, i) => whole(one, ids[i]))
    return {
      type: 'ok',
      ...shown.every(order => order !== undefined) ? { orders: shown } : { ids },
      ...next !== undefined && next !== null && next !== '' && { next: text(next) }
    }
  }

  /** undefined if a page does not show orders as completely as a single answer does. */
  function whole (one: unknown, id: string | undefined): OrderAnswered | undefined {
    if (order.items === undefined || order.status === undefined) return undefined
    try {
      return orders.answered(one, { id })
    } catch {
      return undefined
    }
  }

  function refused ({ kind }: Operation, status: number, content: unknown): Understood {
    const { problem, notOf } = usualRefusals[status] ?? {}
    const meant = Object.entries(description.refusals ?? {}).find(([, refusal]) => [refusal].flat().some(one => isMeant(one, status, content)))?.[0]
    const named = meant ?? (notOf === kind ? undefined : problem)
    return { type: named !== undefined || status < 500 ? 'fail' : 'info', problem: named ?? `http-${status}` }
  }

  return {
    name,
    ...postgres !== false && {
      postgres: {
        binaries: () => findPostgres(postgres === true ? undefined : postgres.binaries),
        ...postgres !== true && postgres.settings && { settings: environmentOf(postgres.settings, {}) }
      }
    },
    products,
    ...limits && { limits: inMilliseconds(limits) },
    orders: {
      ...description.itemsPerOrder !== undefined && { items: description.itemsPerOrder },
      ...!hasCustomers && { customers: 1 }
    },
    features: [...order.reference === undefined ? [] : ['reference' as const], ...replayed === undefined ? [] : ['replayed' as const], ...features],
    lacks: lackedBy(description, hasCustomers),
    ...states.transitions && { transitions: states.transitions },

    async prepare (run) {
      for (const step of description.prepare ?? []) await prepare(step, folder, run)
    },

    start (run, instance) {
      if (instance.index === 0) url = `http://127.0.0.1:${instance.port}`
      const values = valuesOfRun(run, instance)
      const [program = '', ...args] = start.command.map(part => fillText(String(part), values))
      return { command: [program, ...args], cwd: resolve(folder, fillText(start.cwd ?? '.', values)), env: environmentOf(start.env ?? {}, values) }
    },

    readiness: start.ready,

    ...catalogue !== undefined && {
      async stock (run, url) {
        for (const product of run.products) await put(requestOf(catalogue, headers, { product: inMajor(product), env: process.env, ...sign && { jwt: sign('catalogue') } }), url)
      }
    },

    request,
    understand,

    ...requests.stream !== undefined && stream !== undefined && orders.hasVersions && {
      stream: {
        request: customer => requestOf(requests.stream ?? '', { accept: 'text/event-stream', ...headers }, valuesOf({ customer })),
        understand (data) {
          const event = parsed(data)
          if (at(event, stream.orderId) === undefined) return undefined
          return { orderId: idOf(at(event, stream.orderId)), version: numberAt(event, stream.version, 'stream.version'), type: states.known(text(at(event, stream.status))) }
        }
      }
    },

    ...consumer !== undefined && orders.hasVersions && {
      consumer: {
        understand: body => [at(parsed(body), consumer.at ?? '')].flat().map(event => ({
          orderId: idOf(at(event, consumer.orderId)),
          version: numberAt(event, consumer.version, 'consumer.version'),
          type: states.known(text(at(event, consumer.status)))
        }))
      }
    },

    snapshot (run) {
      const options = { stored, orders, folder, onlyCustomer: hasCustomers ? undefined : onlyCustomer }
      return readStored(options, valuesOfRun(run), { database: run.directDatabaseUrl, service: url })
    }
  }
}

async function prepare (step: NonNullable<Description['prepare']>[number], folder: string, run: Run): Promise<void> {
  const values = valuesOfRun(run)
  if ('command' in step) {
    await runProgram(step, folder, values)
    return
  }
  const statements = 'sql' in step ? fillText(step.sql, values, value => pg.escapeLiteral(text(value))) : readFileSync(resolve(folder, step.sqlFile), 'utf8')
  await withClient(run.directDatabaseUrl, async client => {
    try {
      await client.query(statements)
    } catch (error) {
      throw new UserError(`${'sql' in step ? statements.trim().split('\n')[0] : step.sqlFile} failed: ${error instanceof Error ? error.message : String(error)}. The service was not started; correct prepare.`)
    }
  })
}

async function put ({ method, path, headers, body }: Request, url: string): Promise<void> {
  const response = await fetch(url + path, { method, headers, ...body !== undefined && { body }, signal: AbortSignal.timeout(60_000) })
  if (!response.ok) throw new UserError(`catalogue, ${method} ${path}, was answered with ${response.status}: ${(await response.text()).slice(0, 300)}\nThe load was not started.`)
  await response.body?.cancel()
}

function valuesOfRun ({ directDatabaseUrl, databaseUrl, eventsUrl, directory, products }: Run, instance?: Instance): Values {
  const url = instance === undefined ? directDatabaseUrl : databaseUrl
  return {
    databaseUrl: url,
    ...url !== '' && { database: partsOf(new URL(url)) },
    ...eventsUrl !== undefined && { eventsUrl },
    directory,
    products: products.map(inMajor),
    env: process.env,
    ...instance
  }
}

/** The parts of the database URL, for drivers that need them separately, such as JDBC. */
function partsOf ({ hostname, port, username, password, pathname }: URL): Values {
  return { host: hostname, port, user: username, password, name: pathname.slice(1) }
}

/** A product with its price in major units in addition to minor units. */
function inMajor (product: Product): Product & { readonly price: number } {
  return { ...product, price: product.unitPrice / 10 ** decimalsOf(product.currency) }
}

function inMilliseconds ({ start, stop, answer, rest }: NonNullable<Description['limits']>): NonNullable<Target['limits']> {
  return {
    ...start !== undefined && { start: start * 1_000 },
    ...stop !== undefined && { stop: stop * 1_000 },
    ...answer !== undefined && { answer: answer * 1_000 },
    ...rest !== undefined && { rest: rest * 1_000 }
  }
}

function isMeant (refusal: Refusal, status: number, content: unknown): boolean {
  if (typeof refusal === 'number') return refusal === status
  return refusal.status === status && Object.entries(refusal.where ?? {}).every(([pointer, value]) => at(content, pointer) === value)
}

function isReplay ({ headers }: Answer, header: string): boolean {
  const value = headers[header.toLowerCase()]
  return value !== undefined && value !== 'false'
}

/** The parsed body, or its text if it is not JSON; undefined if it is empty. */
function parsed (body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return body.trim() === '' ? undefined : body.trim()
  }
}

/** @throws Error if there is none */
function idInLocation ({ headers: { location } }: Answer): string {
  const id = [location].flat()[0]?.split(/[?#]/)[0]?.split('/').findLast(part => part !== '')
  if (id === undefined) throw new UserError('There is no header Location, where order.id looks')
  return decodeURIComponent(id)
}

/** The parts that a description omits, and what is not checked because of it. */
function lackedBy (
  { order, stream, consumer, stored, requests, list, replayed, features = [], itemsPerOrder = Infinity }: Description,
  hasCustomers: boolean
): string[] {
  const lacks: Array<[boolean, string]> = [
    [hasCustomers, 'customers: requests do not say who asks'],
    [order.version !== undefined, 'versions: order.version is not described, and how far an order has come is told by its state'],
    [order.version !== undefined || (stream === undefined && consumer === undefined && stored.sql?.events === undefined), 'events: without versions nothing says which change they tell of'],
    [order.reference !== undefined, 'references: order.reference is not described, and none is sent'],
    [!hasCustomers || features.includes('own-orders'), 'own-orders: features does not promise that nobody reaches an order of somebody else'],
    [!hasCustomers || features.includes('own-keys'), 'own-keys: features does not promise that two customers may use one key'],
    [replayed !== undefined, 'replays: how an answer says that it repeats an earlier one is not described'],
    [order.status !== undefined, 'states in answers: order.status is not described'],
    [order.items !== undefined, 'items in answers: order.items is not described'],
    [order.items === undefined || order.items.unitPrice !== undefined, 'prices in answers: order.items.unitPrice is not described'],
    [order.total !== undefined, 'totals in answers: order.total is not described'],
    [order.currency !== undefined, 'currencies in answers: order.currency is not described'],
    [itemsPerOrder > 1, 'orders of several products: itemsPerOrder is 1'],
    [requests.list === undefined || list?.next !== undefined, 'later pages: list.next is not described']
  ]
  return lacks.flatMap(([has, what]) => has ? [] : [what])
}
