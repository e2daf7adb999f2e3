import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { UserError } from '../../user-error.ts'
import { pagesFrom } from '../postgres/pages.ts'
import type { EventStored, OrderStored, Snapshot } from '../target.ts'
import type { Description, Program, Scalar } from './description.ts'
import { at } from './pointer.ts'
import { idOf, numberAt, present, type Orders } from './orders.ts'
import { requestOf } from './requests.ts'
import { fillText, text, type Values } from './template.ts'

/** Records as the service gives them, one by one. */
interface Everything {
  readonly orders: readonly unknown[]
  readonly products?: readonly unknown[]
  readonly events?: readonly unknown[]
}

export interface StoredOptions {
  readonly stored: Description['stored']
  readonly orders: Orders
  /** The folder of the description. */
  readonly folder: string
  /** The only customer of a service that does not tell customers apart. */
  readonly onlyCustomer: string | undefined
}

/** Reads all that is stored, in pages if the service gives pages. @throws Error that explains what is not where the description says */
export async function * readStored (
  options: StoredOptions,
  values: Values,
  urls: { readonly database: string, readonly service: string }
): AsyncGenerator<Partial<Snapshot>> {
  const { stored, folder } = options
  if (stored.sql !== undefined) {
    for await (const page of queried(stored.sql, urls.database)) yield understood(options, page)
  } else if (stored.http === undefined) {
    yield understood(options, inDocument(await printed({ ...stored, command: stored.command ?? [] }, folder, values), stored.at))
  } else {
    const { next } = stored.at ?? {}
    const cursors = new Set<unknown>()
    for (let cursor: unknown; ;) {
      const document = await asked(stored.http, urls.service, { ...values, ...cursor !== undefined && { cursor } })
      yield understood(options, inDocument(document, stored.at))
      cursor = next === undefined ? undefined : at(document, next)
      if (cursor === undefined || cursor === null || cursor === '') return
      if (cursors.has(cursor)) throw new UserError(`stored.http gave the cursor ${text(cursor)} twice. What is stored could not be read; there must be none on the last page.`)
      cursors.add(cursor)
    }
  }
}

function understood ({ stored, orders, onlyCustomer }: StoredOptions, everything: Partial<Everything>): Partial<Snapshot> {
  const { order: fields = {}, product = {}, event = {} } = stored
  return {
    ...everything.orders && {
      orders: everything.orders.map((row): OrderStored => ({
        ...orders.stored(row, fields),
        customer: onlyCustomer ?? text(present(row, fields.customer ?? '/customer', 'stored.order.customer')),
        key: text(present(row, fields.key ?? '/key', 'stored.order.key'))
      }))
    },
    ...everything.products && {
      products: everything.products.map(row => ({
        sku: text(present(row, product.sku ?? '/sku', 'stored.product.sku')),
        available: numberAt(row, product.available ?? '/available', 'stored.product.available')
      }))
    },
    // Without versions, nothing shows which change an event belongs to.
    ...everything.events && orders.hasVersions && {
      events: everything.events.map((row): EventStored => ({
        orderId: idOf(present(row, event.orderId ?? '/orderId', 'stored.event.orderId')),
        version: numberAt(row, event.version ?? '/version', 'stored.event.version'),
        type: orders.states.known(text(present(row, event.status ?? '/status', 'stored.event.status'))),
        delivered: at(row, event.delivered ?? '/delivered') !== false
      }))
    }
  }
}

async function * queried (queries: NonNullable<Description['stored']['sql']>, url: string): AsyncGenerator<Partial<Everything>> {
  yield * pagesFrom(url, async function * (pages): AsyncGenerator<Partial<Everything>> {
    for (const name of ['orders', 'products', 'events'] as const) {
      if (queries[name] === undefined) continue
      try {
        for await (const rows of pages<unknown>(queries[name])) yield { [name]: rows }
      } catch (error) {
        throw new UserError(`stored.sql.${name} failed: ${error instanceof Error ? error.message : String(error)}. What is stored could not be read.`)
      }
    }
  })
}

async function asked (template: NonNullable<Description['stored']['http']>, url: string, values: Values): Promise<unknown> {
  const { method, path, headers, body } = requestOf(template, {}, values)
  const response = await fetch(url + path, { method, headers, ...body !== undefined && { body }, signal: AbortSignal.timeout(60_000) })
  const answer = await response.text()
  if (!response.ok) throw new UserError(`stored.http, ${method} ${path}, was answered with ${response.status}: ${answer.slice(0, 300)}\nWhat is stored could not be read.`)
  return parse(answer, `stored.http, ${method} ${path}`)
}

async function printed (program: Program, folder: string, values: Values): Promise<unknown> {
  return parse(await runProgram(program, folder, values), `stored.command, ${program.command.join(' ')}`)
}

/** The output of a program that exited with 0. @throws Error with its output otherwise */
export async function runProgram ({ command, cwd = '.', env = {} }: Program, folder: string, values: Values): Promise<string> {
  const [file = '', ...args] = command.map(part => fillText(String(part), values))
  try {
    const { stdout } = await promisify(execFile)(file, args, {
      cwd: resolve(folder, fillText(cwd, values)),
      env: { PATH: process.env.PATH, ...environmentOf(env, values) },
      maxBuffer: 2 ** 30
    })
    return stdout
  } catch (error) {
    const { stderr = '', stdout = '' } = error as { stderr?: string, stdout?: string }
    throw new UserError(`${[file, ...args].join(' ')} failed: ${error instanceof Error ? error.message.split('\n')[0] : ''}\n${(stderr + stdout).trimEnd().split('\n').slice(-15).join('\n')}`)
  }
}

export function environmentOf (env: Readonly<Record<string, Scalar>>, values: Values): Record<string, string> {
  return Object.fromEntries(Object.entries(env).map(([name, value]) => [name, fillText(String(value), values)]))
}

/** One document, or one document per line. */
function parse (answer: string, from: string): unknown {
  try {
    return JSON.parse(answer)
  } catch {
    const lines = answer.split('\n').filter(line => line !== '')
    try {
      return lines.map(line => JSON.parse(line) as unknown)
    } catch {
      throw new UserError(`${from} gave neither JSON nor one order a line: ${answer.slice(0, 300)}\nWhat is stored could not be read.`)
    }
  }
}

function inDocument (document: unknown, where: Description['stored']['at']): Everything {
  const { orders = '/orders', products = '/products', events = '/events' } = where ?? {}
  const list = (pointer: string): { readonly list?: readonly unknown[] } => {
    const found = at(document, pointer)
    return Array.isArray(found) ? { list: found } : {}
  }
  // Only orders; a single order is one line, which is also the whole document.
  const found = list(orders).list ?? (where === undefined ? [document].flat() : undefined)
  if (found === undefined) throw new UserError(`There is no list at "${orders}", where stored.at.orders looks for what is stored.`)
  const [all, outbox] = [list(products).list, list(events).list]
  return { orders: found, ...all && { products: all }, ...outbox && { events: outbox } }
}
