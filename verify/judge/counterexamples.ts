import { isOnOrder, type Completion, type Invocation } from '../history.ts'
import type { Counterexample, Invariant } from '../verdict.ts'
import type { Case } from './case.ts'
import { type Finding, nameOf } from './findings.ts'
import { type Exchange, keyOf } from './told.ts'

/** The default number of full counterexamples per invariant in a verdict. All are counted. */
const usualTellMax = 20

interface Told {
  readonly counterexample: Counterexample
  /** The place in the record of the first request for its order. */
  readonly place: number
  readonly name: string
}

/** Keeps the first few of each invariant by their places in the record, whatever was checked first. The others are only passed on. */
export class Counterexamples {
  readonly #first = new Map<Invariant, Told[]>()
  readonly #tellMax: number
  readonly #onEach: ((counterexample: Counterexample) => void) | undefined

  constructor ({
    tellMax = usualTellMax,
    onEach
  }: { readonly tellMax?: number | undefined, readonly onEach?: ((counterexample: Counterexample) => void) | undefined }) {
    this.#tellMax = tellMax
    this.#onEach = onEach
  }

  /** Takes the new findings about these customers. */
  add (trial: Case): void {
    const found = trial.findings.take().map(finding => ({ finding, place: placeOf(trial, finding), name: nameOf(finding.subject) }))
    const wanted = this.#onEach === undefined ? this.#mayBeFirst(found) : found
    const shown = counterexamplesOf(trial, wanted.map(({ finding }) => finding))
    for (const [i, { place, name }] of wanted.entries()) {
      const counterexample = shown[i]
      if (counterexample === undefined) continue
      this.#onEach?.(counterexample)
      const of = this.#first.get(counterexample.invariant) ?? []
      this.#first.set(counterexample.invariant, [...of, { counterexample, place, name }].sort(inOrder).slice(0, this.#tellMax))
    }
  }

  first (invariant: Invariant): Counterexample[] {
    return (this.#first.get(invariant) ?? []).map(({ counterexample }) => counterexample)
  }

  #mayBeFirst<T extends Omit<Told, 'counterexample'> & { readonly finding: Finding }> (found: readonly T[]): T[] {
    return [...Map.groupBy(found, ({ finding: { invariant } }) => invariant).values()].flatMap(of => of.sort(inOrder).slice(0, this.#tellMax))
  }
}

function inOrder (a: Omit<Told, 'counterexample'>, b: Omit<Told, 'counterexample'>): number {
  return a.place === b.place ? a.name < b.name ? -1 : 1 : a.place - b.place
}

/** Findings without a request come after all others. */
function placeOf ({ told }: Case, { subject: { customer, key, orderId }, shownBy }: Finding): number {
  const order = customer !== undefined && key !== undefined ? told.orders.get(keyOf({ customer, key })) : told.acknowledged.get(orderId ?? '')?.order
  return order?.attempts[0]?.begun ?? shownBy?.begun ?? Number.MAX_SAFE_INTEGER
}

/** Each finding with all requests, answers and stored rows of its order. */
function counterexamplesOf (trial: Case, findings: readonly Finding[]): Counterexample[] {
  const concerning = exchangesOf(trial, findings)
  return findings.map(({ invariant, says, subject, shownBy }) => {
    const names = namesOf(trial, subject)
    const exchanges = new Set(names.flatMap(name => concerning.get(name) ?? []))
    if (shownBy) exchanges.add(shownBy)
    const { customer, key, orderId } = subject
    return {
      invariant,
      says,
      ...key !== undefined && { key },
      ...customer !== undefined && { customer },
      ...orderId !== undefined && { orderId },
      lines: linesOf(exchanges),
      stored: storedOf(trial, subject, names)
    }
  })
}

/** Collects only the exchanges about findings, by the names of their orders, in one pass, however long the history is. */
function exchangesOf (trial: Case, findings: readonly Finding[]): Map<string, Exchange[]> {
  const wanted = new Map<string, Exchange[]>()
  for (const { subject } of findings) {
    for (const name of namesOf(trial, subject)) wanted.set(name, [])
  }
  if (wanted.size === 0) return wanted
  for (const exchange of trial.told.exchanges) {
    const { operation } = exchange.invocation
    if (operation.kind === 'place') wanted.get(keyOf(operation))?.push(exchange)
    else if (isOnOrder(operation) || operation.kind === 'refund') wanted.get(operation.id)?.push(exchange)
  }
  return wanted
}

/** The names of an order: its key, and every id that was acknowledged or stored for it. */
function namesOf ({ told, reads }: Case, { customer, key, orderId }: Finding['subject']): string[] {
  const names = new Set<string>()
  if (orderId !== undefined) names.add(orderId)
  if (customer !== undefined && key !== undefined) {
    const name = keyOf({ customer, key })
    names.add(name)
    for (const { completion } of told.orders.get(name)?.acknowledgements ?? []) {
      if (completion?.order) names.add(completion.order.id)
    }
    for (const read of reads) {
      for (const row of read.byKey.get(name) ?? []) names.add(row.id)
    }
  }
  return [...names]
}

function linesOf (exchanges: ReadonlySet<Exchange>): Array<Invocation | Completion> {
  // The settling came last, but its lines are sorted in by time: both are on one clock.
  return [...exchanges].flatMap(({ invocation, completion }) => completion ? [invocation, completion] : [invocation]).sort((a, b) => a.at - b.at)
}

function storedOf ({ evidence, reads, ledger }: Case, { sku }: Finding['subject'], names: readonly string[]): unknown {
  const ofOrder = ({ orderId }: { readonly orderId: string }): boolean => names.includes(orderId)
  const stored: unknown[] = reads.map(({ afterSettling, snapshot: { products, payments, refunds }, byKey, byId, events }) => ({
    read: afterSettling ? 'second' : 'first',
    ...sku === undefined
      ? {
          orders: [...new Set(names.flatMap(name => byKey.get(name) ?? byId.get(name) ?? []))],
          events: names.flatMap(name => events?.get(name) ?? []),
          ...payments && { payments: payments.filter(ofOrder) },
          ...refunds && { refunds: refunds.filter(ofOrder) }
        }
      : { product: evidence.products.find(product => product.sku === sku), available: products?.find(product => product.sku === sku)?.available }
  }))
  const moved = ledger?.filter(line => names.includes('charge' in line ? line.charge.order : line.refund.order)) ?? []
  return moved.length === 0 ? stored : [...stored, { ledger: moved }]
}
