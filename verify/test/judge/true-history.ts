import fc from 'fast-check'
import { isOnOrder, type Line, type Operation, type OrderAnswered, type OrderAsked, type Purpose } from '../../history.ts'
import type { LedgerLine } from '../../gateway/ledger.ts'
import type { Evidence } from '../../judge/evidence.ts'
import type { EventStored, OrderStored, Product, Snapshot } from '../../target.ts'

/** One request, and whether it and its answer arrive. */
export interface Command {
  readonly kind: 'new' | 'again' | 'reuse' | 'pay' | 'cancel' | 'read' | 'list'
  readonly customer: string
  readonly order: OrderAsked
  /** Which of the earlier orders it is about. */
  readonly pick: number
  readonly fate: 'answered' | 'refused' | 'cut-before' | 'cut-after' | 'never-ended'
  /** ms until it is sent, from there until it takes effect, and from there to the answer. */
  readonly times: readonly [number, number, number]
}

const catalogue: readonly Product[] = [
  { sku: 'ale', name: 'Ale', unitPrice: 520, currency: 'EUR', stock: 1_000_000 },
  { sku: 'pie', name: 'Pie', unitPrice: 1_350, currency: 'EUR', stock: 1_000_000 },
  { sku: 'malt', name: 'Malt', unitPrice: 4_200, currency: 'EUR', stock: 9 }
]
export const transitions = { placed: ['paid', 'cancelled'], paid: ['shipped', 'cancelled'], shipped: ['delivered'] }

const item = fc.record({ sku: fc.constantFrom('ale', 'pie', 'pie', 'malt', 'nothing-of-ours'), quantity: fc.integer({ min: 1, max: 3 }) })
const order = fc.record({
  currency: fc.constant('EUR'),
  items: fc.uniqueArray(item, { selector: ({ sku }) => sku, minLength: 1, maxLength: 2 }),
  reference: fc.constantFrom('table 7', 'table 8')
}, { requiredKeys: ['currency', 'items'] })
const small = fc.integer({ min: 0, max: 4 })
const command: fc.Arbitrary<Command> = fc.record({
  kind: fc.constantFrom('new', 'new', 'new', 'again', 'reuse', 'pay', 'pay', 'cancel', 'read', 'list'),
  customer: fc.constantFrom('alice', 'bob', 'carol'),
  order,
  pick: fc.nat(),
  fate: fc.constantFrom('answered', 'answered', 'answered', 'answered', 'answered', 'answered', 'refused', 'cut-before', 'cut-after', 'never-ended'),
  times: fc.tuple(small, small, small)
})

/** The evidence of a service that keeps every promise. */
export const evidence: fc.Arbitrary<Evidence> = fc.array(command, { minLength: 60, maxLength: 90 }).map(trueHistory)

/** The same at every call. */
export function someEvidence (commands = 120): Evidence {
  return trueHistory(fc.sample(fc.array(command, { minLength: commands, maxLength: commands, size: 'max' }), { seed: 7, numRuns: 1 })[0] ?? [])
}

/**
 * A model of a service and its clients. The commands overlap: each is sent, takes effect and is answered at times of its own.
 * Some are refused, some are cut before they take effect and some after.
 */
export function trueHistory (commands: readonly Command[]): Evidence {
  const service = new Service()
  const clients = new Clients(service)
  let at = 1_000
  const moments: Array<{ at: number, act: () => void }> = []
  for (const command of commands) {
    at += command.times[0]
    clients.plan(command, at, moments)
  }
  moments.sort((a, b) => a.at - b.at)
  for (const { act } of moments) act()

  const first = service.snapshot(false)
  const history: Line[] = [...clients.lines, { type: 'stream', at, customer: 'alice', state: 'closed' }]
  clients.lines = []
  clients.settle(at + 1_000)
  return {
    scenario: 'model',
    target: 'model',
    seed: 7,
    startedAt: '2026-01-01T00:00:00.000Z',
    duration: at - 1_000,
    environment: {},
    history,
    settle: clients.lines,
    faults: [],
    products: catalogue,
    first,
    second: service.snapshot(true),
    transitions,
    needed: { faultsInFlight: 0 }
  }
}

/** The same for a service with a payment gateway: every payment was requested twice, and declined at first. */
export function withMoney (whole: Evidence): Evidence {
  const ofRead = (read: Snapshot | undefined): Snapshot | undefined => read && {
    ...read,
    payments: paidIn(read).flatMap(({ id, total: amount, currency }) => [
      { id: `declined-${id}`, orderId: id, amount, currency, state: 'declined' },
      { id: `charged-${id}`, orderId: id, amount, currency, state: 'charged' }
    ]),
    refunds: paidIn(read).filter(({ status }) => status === 'cancelled').map(({ id, total: amount, currency }) => ({ id: `refund-${id}`, paymentId: `charged-${id}`, orderId: id, amount, currency, state: 'refunded' }))
  }
  const ledger = (whole.second ? paidIn(whole.second) : []).flatMap(({ id, customer, total: amount, currency, status }): LedgerLine[] => {
    const charge = { order: id, customer, amount, currency, capture: true, captured: amount, refunded: 0 }
    const charged = { ...charge, id: `charged-${id}`, reference: `ch-${id}`, state: 'charged' } as const
    return [
      { at: 0, charge: { ...charge, id: `declined-${id}`, reference: `no-${id}`, state: 'declined', captured: 0 } },
      { at: 0, charge: charged },
      ...status !== 'cancelled'
        ? []
        : [
            { at: 0, charge: { ...charged, refunded: amount } },
            { at: 0, refund: { id: `refund-${id}`, reference: `re-${id}`, charge: `charged-${id}`, of: `ch-${id}`, order: id, amount, currency, state: 'refunded' } as const }
          ]
    ]
  })
  return { ...whole, first: ofRead(whole.first), second: ofRead(whole.second), ledger }
}

function paidIn ({ orders, events = [] }: Snapshot): OrderStored[] {
  const paid = new Set(events.flatMap(({ orderId, type }) => type === 'paid' ? orderId : []))
  return orders.filter(({ id }) => paid.has(id))
}

type Answered = { type: 'ok', status: number, order?: OrderAnswered, ids?: string[] } | { type: 'fail', status: number, problem: string }

class Service {
  readonly #orders = new Map<string, OrderStored>()
  readonly #events: EventStored[] = []
  readonly #available = new Map(catalogue.map(({ sku, stock }) => [sku, stock]))
  onEvent: (customer: string, event: EventStored) => void = () => {}

  do (operation: Operation): Answered {
    if (operation.kind === 'place') return this.#place(operation.customer, operation.key, operation.order)
    const own = [...this.#orders.values()].filter(({ customer }) => customer === operation.customer)
    if (operation.kind === 'list') return { type: 'ok', status: 200, ids: own.map(({ id }) => id) }
    if (!isOnOrder(operation)) throw new Error(`The model does not ${operation.kind}.`)
    const row = own.find(({ id }) => id === operation.id)
    if (!row) return { type: 'fail', status: 404, problem: 'not-found' }
    return operation.kind === 'read' ? { type: 'ok', status: 200, order: answer(row) } : this.#step(row, operation.kind === 'pay' ? 'paid' : 'cancelled')
  }

  snapshot (delivered: boolean): Snapshot {
    return structuredClone({
      orders: [...this.#orders.values()],
      events: this.#events.map(event => ({ ...event, delivered })),
      products: [...this.#available].map(([sku, available]) => ({ sku, available }))
    })
  }

  #place (customer: string, key: string, { currency, items, reference: named }: OrderAsked): Answered {
    const reference = named ?? null
    const existing = this.#orders.get(`${customer} ${key}`)
    if (existing) {
      const same = JSON.stringify([existing.items.map(({ sku, quantity }) => ({ sku, quantity })), existing.reference]) === JSON.stringify([items, reference])
      return same ? { type: 'ok', status: 201, order: { ...answer(existing), status: 'placed', version: 1 } } : { type: 'fail', status: 422, problem: 'idempotency-key-reused' }
    }
    const lines = items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: catalogue.find(product => product.sku === sku)?.unitPrice ?? NaN }))
    const total = lines.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    if (Number.isNaN(total)) return { type: 'fail', status: 422, problem: 'unknown-product' }
    if (lines.some(({ sku, quantity }) => (this.#available.get(sku) ?? 0) < quantity)) return { type: 'fail', status: 409, problem: 'out-of-stock' }
    for (const { sku, quantity } of lines) this.#available.set(sku, (this.#available.get(sku) ?? 0) - quantity)
    const row = { id: `order-${this.#orders.size + 1}`, customer, key, status: 'placed', version: 1, currency, items: lines, total, reference }
    this.#orders.set(`${customer} ${key}`, row)
    this.#tell(row)
    return { type: 'ok', status: 201, order: answer(row) }
  }

  #step (row: OrderStored, to: 'paid' | 'cancelled'): Answered {
    if (row.status === to) return { type: 'ok', status: 200, order: answer(row) }
    if (!transitions[row.status as keyof typeof transitions]?.includes(to)) return { type: 'fail', status: 409, problem: 'transition-not-allowed' }
    if (to === 'cancelled') for (const { sku, quantity } of row.items) this.#available.set(sku, (this.#available.get(sku) ?? 0) + quantity)
    const after = { ...row, status: to, version: row.version + 1 }
    this.#orders.set(`${row.customer} ${row.key}`, after)
    this.#tell(after)
    return { type: 'ok', status: 200, order: answer(after) }
  }

  #tell ({ id, version, status, customer }: OrderStored): void {
    const event = { orderId: id, version, type: status, delivered: true }
    this.#events.push(event)
    this.onEvent(customer, event)
  }
}

function answer ({ id, status, version, currency, items, total, reference }: OrderStored): OrderAnswered {
  return { id, status, version, currency, items, total, reference }
}

type Place = Extract<Operation, { kind: 'place' }>

class Clients {
  lines: Line[] = [{ type: 'stream', at: 0, customer: 'alice', state: 'opened' }]
  readonly #service: Service
  readonly #places: Place[] = []
  readonly #acknowledged: Array<{ place: Place, id: string }> = []
  readonly #unknown = new Map<string, Place>()
  #op = 0
  #walks = 0
  #at = 0

  constructor (service: Service) {
    this.#service = service
    service.onEvent = (customer, { orderId, version, type }) => {
      // Only one of them has a stream open.
      if (customer === 'alice') this.lines.push({ type: 'event', at: this.#at, customer, event: { orderId, version, type } })
    }
  }

  plan (command: Command, at: number, moments: Array<{ at: number, act: () => void }>): void {
    const { fate, times: [, before, after] } = command
    let op = 0
    let operation: Operation
    let answered: Answered | undefined
    moments.push({
      at,
      act: () => {
        this.#at = at
        operation = this.#operation(command)
        op = this.#invoke(operation, command.kind === 'reuse' ? 'reuse' : command.kind === 'again' ? 'replay' : operation.kind === 'place' ? 'new' : 'transition')
      }
    }, {
      at: at + before,
      act: () => {
        this.#at = at + before
        if (fate === 'answered' || fate === 'cut-after' || (fate === 'never-ended' && command.pick % 2 === 0)) answered = this.#service.do(operation)
      }
    }, {
      at: at + before + after,
      act: () => {
        this.#at = at + before + after
        if (fate === 'never-ended') this.#remember(operation, undefined)
        else if (fate === 'refused') this.lines.push({ type: 'fail', op, at: this.#at, status: 503, problem: 'not-started' })
        else if (fate === 'answered' && answered) this.#complete(operation, op, answered)
        else this.#complete(operation, op, undefined)
      }
    })
  }

  settle (at: number): void {
    this.#at = at
    this.#op = 0
    const acknowledged = new Map(this.#acknowledged.map(({ place }) => [place.key, place]))
    for (const place of [...acknowledged.values(), ...[...this.#unknown.values()].filter(({ key }) => !acknowledged.has(key))]) {
      this.#at++
      this.#complete(place, this.#invoke(place, 'settle'), this.#service.do(place))
    }
  }

  #operation ({ kind, customer, order, pick }: Command): Operation {
    const earlier = this.#places[pick % this.#places.length]
    const acknowledged = this.#acknowledged[pick % this.#acknowledged.length]
    if (kind === 'list') return { kind, customer, walk: ++this.#walks }
    if (kind === 'again' && earlier) return earlier
    if (kind === 'reuse' && earlier) return { ...earlier, order: { ...earlier.order, items: earlier.order.items.map(({ sku, quantity }) => ({ sku, quantity: quantity + 1 })) } }
    if ((kind === 'pay' || kind === 'cancel' || kind === 'read') && acknowledged) return { kind, customer: acknowledged.place.customer, id: acknowledged.id }
    const place: Place = { kind: 'place', customer, key: `key-${this.#places.length + 1}`, order }
    this.#places.push(place)
    return place
  }

  #invoke (operation: Operation, purpose: Purpose): number {
    const op = ++this.#op
    this.lines.push({ type: 'invoke', op, at: this.#at, scheduled: this.#at - 1, purpose, operation })
    return op
  }

  #complete (operation: Operation, op: number, answered: Answered | undefined): void {
    this.lines.push(answered ? { op, at: this.#at, ...answered } : { type: 'info', op, at: this.#at, error: 'ECONNRESET' })
    this.#remember(operation, answered)
  }

  #remember (operation: Operation, answered: Answered | undefined): void {
    if (operation.kind !== 'place') return
    if (!answered) this.#unknown.set(operation.key, operation)
    else if (answered.type === 'ok' && answered.order) this.#acknowledged.push({ place: operation, id: answered.order.id })
  }
}
