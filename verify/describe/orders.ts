import type { OrderAnswered, OrderAsked, Product } from '../target.ts'
import type { Description, ItemFields, OrderFields } from './description.ts'
import { UserError } from '../../user-error.ts'
import { at } from './pointer.ts'
import type { States } from './states.ts'

/** What is known about an order without reading it: the request, and the state that an answer without a state means. */
export interface Known {
  readonly asked?: OrderAsked | undefined
  readonly status?: string | undefined
  /** Used if the answer itself does not contain it. */
  readonly id?: string | undefined
}

/**
 * Reads orders from answers and from stored data. Fields that a service does not give are filled in from the request, so
 * that they cannot be found wrong.
 */
export class Orders {
  readonly states: States
  readonly #fields: OrderFields
  readonly #isMajor: boolean
  readonly #products: ReadonlyMap<string, Product>

  constructor ({ order, money = 'minor' }: Description, states: States, products: readonly Product[]) {
    this.states = states
    this.#fields = order
    this.#isMajor = money === 'major'
    this.#products = new Map(products.map(product => [product.sku, product]))
  }

  get hasVersions (): boolean {
    return this.#fields.version !== undefined
  }

  /**
   * The order of an answer; undefined if the answer does not contain enough of it.
   *
   * @throws Error if something is not at its pointer
   */
  answered (answer: unknown, { asked, status, id: knownId }: Known): OrderAnswered | undefined {
    const fields = this.#fields
    const id = knownId ?? idOf(present(answer, fields.id, 'order.id'))
    const state = fields.status === undefined ? status : this.states.known(String(present(answer, fields.status, 'order.status')))
    const items = fields.items === undefined ? asked && this.#priced(asked.items) : this.#items(answer, fields.items, 'order.items')
    if (state === undefined || items === undefined) return undefined
    const currency = fields.currency === undefined ? asked?.currency ?? this.#currencyOf(items) : String(present(answer, fields.currency, 'order.currency'))
    return {
      id,
      status: state,
      version: fields.version === undefined ? this.states.rank(state) : numberAt(answer, fields.version, 'order.version'),
      currency,
      items,
      total: fields.total === undefined ? sum(items) : this.#amount(numberAt(answer, fields.total, 'order.total'), currency),
      reference: fields.reference === undefined ? null : textOrNull(at(answer, fields.reference))
    }
  }

  /** A stored order. It must contain everything that `order` names, too. */
  stored (row: unknown, fields: NonNullable<Description['stored']['order']>): OrderAnswered {
    const told = this.#fields
    const status = this.states.known(String(present(row, fields.status ?? '/status', 'stored.order.status')))
    const items = this.#items(row, { ...told.items?.unitPrice !== undefined && { unitPrice: '/unitPrice' }, ...fields.items }, 'stored.order.items')
    const optional = (name: 'currency' | 'total' | 'reference'): unknown => {
      const pointer = fields[name] ?? `/${name}`
      return told[name] === undefined ? at(row, pointer) : present(row, pointer, `stored.order.${name}`)
    }
    const currency = String(optional('currency') ?? this.#currencyOf(items))
    const total = optional('total')
    return {
      id: idOf(present(row, fields.id ?? '/id', 'stored.order.id')),
      status,
      version: told.version === undefined ? this.states.rank(status) : numberAt(row, fields.version ?? '/version', 'stored.order.version'),
      currency,
      items,
      total: total === undefined || total === null ? sum(items) : this.#amount(number(total, 'stored.order.total'), currency),
      reference: told.reference === undefined ? null : textOrNull(optional('reference'))
    }
  }

  #items (document: unknown, { at: pointer = '/items', sku = '/sku', quantity = '/quantity', unitPrice }: ItemFields, name: string): OrderAnswered['items'] {
    const found = parsed(present(document, pointer, `${name}.at`))
    const list: unknown[] = Array.isArray(found) ? found : [found]
    return list.map(item => {
      const of = String(present(item, sku, `${name}.sku`))
      const product = this.#products.get(of)
      const price = unitPrice === undefined ? undefined : this.#amount(numberAt(item, unitPrice, `${name}.unitPrice`), product?.currency ?? '')
      return { sku: of, quantity: numberAt(item, quantity, `${name}.quantity`), unitPrice: price ?? product?.unitPrice ?? 0 }
    })
  }

  #priced (items: OrderAsked['items']): OrderAnswered['items'] {
    return items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: this.#products.get(sku)?.unitPrice ?? 0 }))
  }

  #currencyOf ([first]: OrderAnswered['items']): string {
    return first === undefined ? '' : this.#products.get(first.sku)?.currency ?? ''
  }

  /** In minor units. */
  #amount (value: number, currency: string): number {
    return this.#isMajor ? Math.round(value * 10 ** decimalsOf(currency)) : value
  }
}

/** Digits of the minor unit by ISO 4217: 2 for EUR, 0 for JPY. */
export function decimalsOf (currency: string): number {
  return /^[A-Z]{3}$/.test(currency) ? new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ?? 2 : 2
}

/** @throws Error if nothing is there */
export function present (document: unknown, pointer: string, name: string): unknown {
  const value = at(document, pointer)
  if (value === undefined) throw new UserError(`There is nothing at "${pointer}", where ${name} looks, in ${short(document)}`)
  return value
}

export function numberAt (document: unknown, pointer: string, name: string): number {
  return number(present(document, pointer, name), name)
}

/** An id, which may be a number. */
export function idOf (value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw new UserError(`An order's id is ${short(value)}, which is neither a text nor a number`)
}

/** Drivers return large numbers as text. They are exact here, because no amount of a run comes near 2^53. */
function number (value: unknown, name: string): number {
  const read = typeof value === 'string' && value !== '' ? Number(value) : value
  if (typeof read === 'number' && Number.isFinite(read)) return read
  throw new UserError(`${name} is ${short(value)}, which is no number`)
}

function textOrNull (value: unknown): string | null {
  return value === undefined || value === null ? null : String(value)
}

/** A JSON column may come as text. */
function parsed (value: unknown): unknown {
  if (typeof value !== 'string') return value
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

function sum (items: OrderAnswered['items']): number {
  return items.reduce((total, { quantity, unitPrice }) => total + quantity * unitPrice, 0)
}

function short (value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}
