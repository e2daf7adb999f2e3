import { UserError } from '../../user-error.ts'
import { isOnOrder, noVersion, type Completion, type Operation, type OrderAsked, type Purpose, type Transition } from '../history.ts'
import { random } from '../random.ts'
import type { Product, Target } from '../target.ts'
import type { Manner } from './connection.ts'
import { burstMix, usualMix, type Kind, type Mix } from './mix.ts'

/** Stock that no run uses up. */
export const plenty = 100_000
/** The customer of a service that does not tell customers apart. */
export const onlyCustomer = 'customer'
/** Regulars stay for a long time, and have event streams. */
const regularCount = 4
/** Guests come and go. */
const guestCount = 16
/** Arrivals until the next guests come, so that the list of a guest has an end, however long the run is. */
const guestsStay = 4_000
const regularsStay = 20_000
/** Further pages to follow, enough for the whole list of a guest. */
const manyPages = 40
/** How many earlier orders are remembered, to be used again. */
const rememberMax = 20_000
const onTheirWayMax = 200

/** How often staff reads a stock again if an order changed it before staff could set it. */
const stockTries = 5
/** How often a customer asks to pay at most, if the outcome is unknown. */
const payTries = 3
const stockMore = 25

/** One request of an arrival. */
export interface Planned {
  readonly purpose: Purpose
  readonly operation: Operation
  readonly manner?: Manner
  /** For a list: how many pages to follow. */
  readonly pages?: number
  /** The request that follows the answer to this one. */
  readonly then?: (completion: Completion) => Planned | undefined
}

/** The customers at a time. */
interface Company {
  /** The number of the group of guests. */
  readonly regular: number
  readonly guest: number
  readonly regulars: readonly string[]
  readonly all: readonly string[]
}

type Place = Extract<Operation, { kind: 'place' }>
type Draw = () => number

/** An acknowledged order, as last seen. */
interface Known {
  readonly place: Place
  readonly id: string
  readonly total: number
  status: string
  version: number
  readonly firstEtag: string | undefined
  etag: string | undefined
}

export interface PlanOptions {
  readonly seed: number
  readonly products: readonly Product[]
  readonly target: Pick<Target, 'request' | 'orders' | 'states' | 'features'>
  readonly mix?: Partial<Mix> | undefined
}

/**
 * Plans the arrivals. The same seed makes the same arrivals: purpose, customer, key and the contents of a new order. Which
 * earlier order is used depends on the answers, too.
 */
export class Plan {
  readonly #staff: string
  readonly #seed: number
  readonly #orders: NonNullable<Target['orders']>
  /** The remembered orders. */
  readonly #transitions: ReadonlyArray<'pay' | 'cancel'>
  readonly #plentiful: readonly Product[]
  readonly #scarce: readonly Product[]
  readonly #shares: Shares
  readonly #burstShares: Shares
  readonly #states: Target['states']
  readonly #named: boolean
  readonly #intrusions: ReadonlyArray<'read' | 'pay' | 'cancel'>
  readonly #earlier: Known[] = []
  readonly #byId = new Map<string, Known>()
  /** Orders for staff: the last ones that were seen paid or shipped. */
  readonly #onTheirWay: Known[] = []
  /** The names of the remembered orders. */
  readonly #earlierNames = new Set<string>()
  readonly #unknown = new Map<string, Place>()
  readonly #restocks: Array<Extract<Operation, { kind: 'restock' }>> = []
  #company: Company | undefined
  #acknowledged = 0
  #arrivals = 0
  #bursts = 0
  #walks = 0

  constructor ({ seed, products, target, mix }: PlanOptions) {
    this.#seed = seed
    this.#orders = target.orders ?? {}
    this.#staff = `staff-${seed}`
    this.#states = target.states
    this.#named = target.features?.includes('reference') ?? true
    this.#plentiful = products.filter(({ stock }) => stock >= plenty)
    this.#scarce = products.filter(({ stock }) => stock < plenty)
    if (this.#plentiful.length === 0) throw new UserError(`No product has a stock of ${plenty} or more. Nothing was sent; give the run one that does not run out.`)

    this.#intrusions = (['read', 'pay', 'cancel'] as const).filter(kind => target.request({ kind, customer: '', id: '' }) !== undefined)
    this.#transitions = (['pay', 'cancel'] as const).filter(kind => this.#intrusions.includes(kind))
    const possible = possibleWith(target, this.#scarce.length > 0)
    const sharesOf = (mix: Partial<Mix>): Shares => (Object.entries(mix) as Array<[Kind, number]>).filter(([kind]) => possible[kind] ?? true)
    this.#shares = sharesOf({ ...usualMix, ...mix })
    this.#burstShares = sharesOf(burstMix)
  }

  /** The present customers. */
  get regulars (): readonly string[] {
    return this.#present().regulars
  }

  /** The settled orders of an earlier run. */
  get acknowledged (): number {
    return this.#acknowledged
  }

  /** The requests of the next arrival, to be sent at the same time. */
  next (): Planned[] {
    const number = ++this.#arrivals
    return this.#arrival(this.#shares, `${number}`, Math.imul(number, 0x85ebca6b))
  }

  /** Arrivals in addition to those that are due, which they do not shift. */
  burst (count: number): Planned[] {
    return Array.from({ length: count }, () => {
      const number = ++this.#bursts
      return this.#arrival(this.#burstShares, `burst-${number}`, Math.imul(number, 0xc2b2ae35))
    }).flat()
  }

  /** Every present customer lists all their orders. */
  walks (): Planned[] {
    return this.#shares.some(([kind, share]) => kind === 'list' && share > 0) ? this.#customers().map(customer => this.#walk(customer, manyPages)) : []
  }

  /** The customer whose stream must show the change: staff changes orders of others. */
  ownerOf (operation: Operation): string {
    if (!isOnOrder(operation)) return operation.customer
    const known = this.#byId.get(operation.id) ?? this.#onTheirWay.find(({ id }) => id === operation.id)
    return known?.place.customer ?? operation.customer
  }

  /** Takes the outcome of a request. */
  learn (operation: Operation, { type, order, etag }: Completion): void {
    if (operation.kind !== 'place') {
      const known = order && this.#byId.get(order.id)
      if (known === undefined || order === undefined || order.version < known.version) return
      Object.assign(known, { status: order.status, version: order.version, etag })
      if (known.status === this.#state('paid') || known.status === this.#state('shipped')) this.#onTheirWay.push(known)
      if (this.#onTheirWay.length > onTheirWayMax) this.#onTheirWay.shift()
      return
    }
    const name = nameOf(operation)
    if (this.#earlierNames.has(name)) return
    if (type === 'info') this.#unknown.set(name, operation)
    if (this.#unknown.size > rememberMax) this.#unknown.delete(this.#unknown.keys().next().value ?? '')
    if (type !== 'ok' || order === undefined) return
    this.#unknown.delete(name)
    this.#remember({ place: operation, id: order.id, total: order.total, status: order.status, version: order.version, firstEtag: etag, etag })
  }

  #remember (known: Known): void {
    const place = this.#acknowledged++ % rememberMax
    const forgotten = this.#earlier[place]
    if (forgotten !== undefined) {
      this.#byId.delete(forgotten.id)
      this.#earlierNames.delete(nameOf(forgotten.place))
    }
    this.#earlier[place] = known
    this.#byId.set(known.id, known)
    this.#earlierNames.add(nameOf(known.place))
  }

  /** Each arrival has its own random numbers, so that the answers to one shift neither the next arrival nor its new orders. */
  #arrival (shares: Shares, name: string, salt: number): Planned[] {
    const seed = Math.imul(this.#seed, 0x9e3779b1) ^ salt
    const draw = random(seed)
    const kind = kindFrom(shares, draw)
    return this.#ofStaff(kind, name, draw) ?? this.#ofEarlier(kind, random(seed ^ 0x27d4eb2f)) ?? this.#fresh(kind, name, draw)
  }

  #customers (): readonly string[] {
    return this.#present().all
  }

  #present (): Company {
    const [regular, guest] = [Math.floor(this.#arrivals / regularsStay), Math.floor(this.#arrivals / guestsStay) + 1]
    if (this.#company?.regular === regular && this.#company.guest === guest) return this.#company
    const named = (count: number, name: string): string[] => Array.from({ length: count }, (_, i) => `customer-${this.#seed}-${name}${i + 1}`)
    const isAlone = this.#orders.customers === 1
    const regulars = isAlone ? [onlyCustomer] : named(regularCount, regular === 0 ? '' : `regular-${regular}-`)
    this.#company = { regular, guest, regulars, all: isAlone ? regulars : [...regulars, ...named(guestCount, `${guest}-`)] }
    return this.#company
  }

  #walk (customer: string, pages: number): Planned {
    return { purpose: 'read', operation: { kind: 'list', customer, walk: ++this.#walks }, pages }
  }

  #state (name: 'placed' | 'paid' | 'shipped'): string {
    return this.#states?.[name] ?? name
  }

  /** Changes of the catalogue. */
  #ofStaff (kind: Kind, name: string, draw: Draw): Planned[] | undefined {
    const customer = this.#staff
    const repriced = this.#plentiful.at(-1)
    const restocked = this.#scarce.at(-1)
    if (kind === 'price' && repriced !== undefined) {
      const { sku, name, currency, unitPrice } = repriced
      return [{ purpose: 'catalogue', operation: { kind, customer, sku, name, currency, unitPrice: unitPrice + Math.floor(draw() * 1_000) } }]
    }
    if (kind === 'restock' && restocked !== undefined) {
      const again = this.#restocks.at(-1)
      const operation = again !== undefined && draw() < 0.3 ? again : { kind, customer, key: `${this.#seed}-${name}`, sku: restocked.sku, delta: 1 + Math.floor(draw() * 9) } as const
      this.#restocks.splice(0, Infinity, operation)
      const planned = { purpose: 'catalogue', operation } as const
      return draw() < 0.3 ? [planned, planned] : [planned]
    }
    if (kind !== 'stock' || restocked === undefined) return undefined
    return [this.#setStock(restocked, stockTries)]
  }

  /** Sets the stock at the version that it reads first. If something was sold in between, it reads again. */
  #setStock (product: Product, tries: number): Planned {
    const { sku, name, currency } = product
    const customer = this.#staff
    return {
      purpose: 'catalogue',
      operation: { kind: 'product', customer, sku },
      then: ({ product: read, etag }) => read && etag !== undefined
        ? {
            purpose: 'catalogue',
            operation: { kind: 'stock', customer, sku, name, currency, unitPrice: read.unitPrice, stock: read.stock + stockMore, seen: read.stock, ifMatch: etag },
            then: ({ problem }) => problem === 'version-mismatch' && tries > 1 ? this.#setStock(product, tries - 1) : undefined
          }
        : undefined
    }
  }

  /** Undefined for a new order, or if there is no earlier one yet. */
  #ofEarlier (kind: Kind, draw: Draw): Planned[] | undefined {
    if (kind === 'list') {
      const customer = pick(this.#customers(), draw)
      return [this.#walk(customer, this.regulars.includes(customer) ? 2 + Math.floor(draw() * 2) : manyPages)]
    }
    const unknown = kind === 'replay' && draw() < 0.25 ? this.#nextUnknown() : undefined
    if (unknown !== undefined) return [{ purpose: 'replay', operation: unknown }]
    const known = this.#any(draw)
    if (known === undefined) return undefined

    const { id, place } = known
    const { customer } = place
    switch (kind) {
      case 'replay': return [{ purpose: 'replay', operation: place }]
      case 'reuse': return [{ purpose: 'reuse', operation: { ...place, order: this.#another(place.order, draw) } }]
      case 'shared-key': {
        const order = draw() < 0.5 ? place.order : { ...place.order, ...this.#basket('new', draw) }
        return [{ purpose: kind, operation: { ...place, customer: this.#somebodyElse(customer, draw), order } }]
      }
      case 'read': return [{ purpose: 'read', operation: { kind: 'read', customer, id } }]
      case 'intrude': return [{ purpose: kind, operation: { kind: pick(this.#intrusions, draw), customer: this.#somebodyElse(customer, draw), id } }]
      case 'transition': {
        const which = draw()
        const [first, ...others] = this.#transitions
        const kinds = others.length === 0 || first === undefined || which >= 0.7 ? this.#transitions : which < 0.4 ? [first] : others
        return kinds.map(step => ({ purpose: kind, operation: { kind: step, customer, id } }))
      }
      case 'fulfil': return this.#fulfilment(draw)
      case 'twin-pay': {
        const { id: placed, place } = this.#any(draw, ({ status }) => status === this.#state('placed')) ?? known
        const planned = this.#payUntilKnown(place.customer, placed, payTries)
        return [planned, planned]
      }
      case 'refund': return this.#refund(draw)
      case 'precondition': return this.#preconditioned(draw)
      default: return undefined
    }
  }

  #fulfilment (draw: Draw): Planned[] | undefined {
    const is = (state: 'placed' | 'paid' | 'shipped') => ({ status }: Known) => status === this.#state(state)
    const step = (kind: Transition, id: string, customer?: string): Planned[] => {
      return [{ purpose: 'fulfil', operation: { kind, customer: customer ?? this.#staff, id, ...customer === undefined && { staff: true } } }]
    }
    const which = draw()
    if (which < 0.1) {
      const known = this.#any(draw, is('paid'), this.#onTheirWay)
      return known && step('ship', known.id, known.place.customer)
    }
    if (which < 0.2) {
      const known = this.#any(draw, is('placed'))
      return known && step('ship', known.id)
    }
    const any = (state: 'paid' | 'shipped') => this.#any(draw, is(state), this.#onTheirWay)
    const known = which < 0.65 ? any('paid') ?? any('shipped') : any('shipped') ?? any('paid')
    return known && step(known.status === this.#state('shipped') ? 'deliver' : 'ship', known.id)
  }

  /** Sent again if the outcome was unknown, like by a client who wants the order paid. */
  #payUntilKnown (customer: string, id: string, tries: number): Planned {
    return {
      purpose: 'twin-pay',
      operation: { kind: 'pay', customer, id },
      ...tries > 1 && { then: ({ type, status }) => type === 'info' && status !== undefined ? this.#payUntilKnown(customer, id, tries - 1) : undefined }
    }
  }

  #refund (draw: Draw): Planned[] | undefined {
    const known = this.#any(draw, undefined, this.#onTheirWay)
    if (known === undefined || known.total === 0) return undefined
    const isPart = draw() < 0.6
    const operation = { kind: 'refund', customer: this.#staff, staff: true, id: known.id, key: `refund-${known.id}-${Math.floor(draw() * 1e9)}`, ...isPart && { amount: 1 + Math.floor(draw() * known.total) } } as const
    const planned = { purpose: 'refund', operation } as const
    return draw() < 0.3 ? [planned, planned] : [planned]
  }

  #preconditioned (draw: Draw): Planned[] | undefined {
    const which = draw()
    const stale = which < 0.3
    const known = stale
      ? this.#any(draw, ({ version, firstEtag, etag, status }) => version > 1 && firstEtag !== undefined && firstEtag !== etag && status === this.#state('paid')) ??
        this.#any(draw, ({ version, firstEtag, etag }) => version > 1 && firstEtag !== undefined && firstEtag !== etag)
      : this.#any(draw, ({ status, etag }) => status === this.#state('placed') && etag !== undefined)
    if (known?.etag === undefined) return undefined
    const { id, etag, firstEtag, place: { customer } } = known
    const ifMatch = stale ? firstEtag ?? etag : which < 0.5 ? noVersion : which < 0.65 ? '*' : etag
    return [{ purpose: 'precondition', operation: { kind: stale || draw() < 0.4 ? 'cancel' : 'pay', customer, id, ifMatch } }]
  }

  /** One of the earlier orders, preferably one for which `is` holds, if a few tries find one. */
  #any (draw: Draw, is?: (known: Known) => boolean, from: readonly Known[] = this.#earlier): Known | undefined {
    for (let tries = is === undefined ? 1 : 20; tries > 0; tries--) {
      const known = from[Math.floor(draw() * from.length)]
      if (known === undefined || is === undefined || is(known)) return known
    }
    return undefined
  }

  #somebodyElse (customer: string, draw: Draw): string {
    return pick(this.#customers().filter(other => other !== customer), draw)
  }

  /** Takes each order in turn until it is acknowledged. */
  #nextUnknown (): Place | undefined {
    const [next] = this.#unknown
    if (next === undefined) return undefined
    this.#unknown.delete(next[0])
    this.#unknown.set(...next)
    return next[1]
  }

  #fresh (kind: Kind, name: string, draw: Draw): Planned[] {
    const operation: Place = {
      kind: 'place',
      customer: pick(this.#customers(), draw),
      key: `${this.#seed}-${name}`,
      order: { ...this.#basket(kind, draw), ...draw() < 0.25 && this.#named && { reference: `reference ${name}` } }
    }
    switch (kind) {
      case 'hot':
      case 'scarce': return [{ purpose: kind, operation }]
      case 'twin': return [{ purpose: kind, operation }, { purpose: kind, operation }]
      // About as long as an answer takes: some clients leave before it, some after.
      case 'hang-up': return [{ purpose: kind, operation, manner: { hangUpAfter: draw() * 40 } }]
      case 'slow-body': return [{ purpose: kind, operation, manner: { bodyPauseMs: 5 + draw() * 200 } }]
      default: return [{ purpose: 'new', operation }]
    }
  }

  #basket (kind: Kind, draw: Draw): Pick<OrderAsked, 'currency' | 'items'> {
    const [hot] = this.#plentiful
    const first = kind === 'hot' && hot !== undefined ? hot : pick(kind === 'scarce' ? this.#scarce : this.#plentiful, draw)
    const products = new Set([first])
    // A scarce product goes with one that is not scarce: if the first runs out, the other must not be taken either.
    const others = kind === 'scarce' ? 1 : Math.floor(draw() * 3)
    for (let i = 0; i < others && products.size < (this.#orders.items ?? Infinity); i++) {
      const other = pick(this.#plentiful, draw)
      if (other.currency === first.currency) products.add(other)
    }
    return {
      currency: first.currency,
      items: [...products].map(({ sku }) => ({ sku, quantity: 1 + Math.floor(draw() * 3) }))
    }
  }

  /** An order that differs in one respect: another quantity, another product, another reference. */
  #another (order: OrderAsked, draw: Draw): OrderAsked {
    const which = draw()
    if (which < 0.25 && this.#named) return { ...order, reference: `${order.reference ?? 'reference'}, another` }
    const other = this.#plentiful.find(({ sku, currency }) => currency === order.currency && !order.items.some(item => item.sku === sku))
    if (which < 0.5 && other !== undefined) return { ...order, items: order.items.map((item, i) => i === 0 ? { ...item, sku: other.sku } : item) }
    return { ...order, items: order.items.map(({ sku, quantity }) => ({ sku, quantity: quantity + 1 })) }
  }
}

type Shares = ReadonlyArray<readonly [Kind, number]>

/** The kinds of arrivals that this target does not support, also `stream`, and `cancel-lines`: cancellations of orders with several lines. */
export function lacksOf (target: Pick<Target, 'request' | 'stream' | 'orders' | 'features'>, products: readonly Product[]): string[] {
  const kinds = Object.entries(possibleWith(target, products.some(({ stock }) => stock < plenty)))
  const cancelsLines = target.request({ kind: 'cancel', customer: '', id: '' }) !== undefined && target.orders?.items !== 1
  return [...kinds.flatMap(([kind, possible]) => possible ? [] : kind), ...target.stream === undefined ? ['stream'] : [], ...cancelsLines ? [] : ['cancel-lines']]
}

/** The mix without the kinds that the target has no request for. */
function possibleWith (target: Pick<Target, 'request' | 'orders' | 'features'>, scarce: boolean): Partial<Record<Kind, boolean>> {
  const can = (operation: Operation): boolean => target.request(operation) !== undefined
  const on = (kind: 'read' | Transition): boolean => can({ kind, customer: '', id: '' })
  const product = { customer: '', sku: '', name: '', currency: '', unitPrice: 0 }
  const probe = '"probe"'
  const read = can({ kind: 'product', customer: '', sku: '' })
  const hasCustomers = target.orders?.customers !== 1
  return {
    scarce,
    transition: on('pay') || on('cancel'),
    // A precondition whose header is not sent has no effect.
    precondition: Object.values(target.request({ kind: 'pay', customer: '', id: '', ifMatch: probe })?.headers ?? {}).includes(probe),
    fulfil: on('ship') && on('deliver'),
    'twin-pay': on('pay'),
    refund: can({ kind: 'refund', customer: '', staff: true, id: '', key: '' }),
    intrude: hasCustomers && on('read') && (target.features?.includes('own-orders') ?? true),
    'shared-key': hasCustomers && (target.features?.includes('own-keys') ?? true),
    read: on('read'),
    list: can({ kind: 'list', customer: '' }),
    price: can({ kind: 'price', ...product }),
    restock: scarce && can({ kind: 'restock', customer: '', key: '', sku: '', delta: 1 }),
    stock: scarce && read && can({ kind: 'stock', ...product, stock: 0, seen: 0, ifMatch: probe })
  }
}

function kindFrom (shares: Shares, draw: Draw): Kind {
  let left = draw() * shares.reduce((sum, [, share]) => sum + share, 0)
  return shares.find(([, share]) => (left -= share) < 0)?.[0] ?? 'new'
}

/** Each customer has their own keys. */
function nameOf ({ customer, key }: Place): string {
  return `${customer}\n${key}`
}

function pick<T> (from: readonly T[], draw: Draw): T {
  const picked = from[Math.floor(draw() * from.length)]
  if (picked === undefined) throw new Error('There is nothing to pick from.')
  return picked
}
