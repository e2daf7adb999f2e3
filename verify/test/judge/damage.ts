import fc from 'fast-check'
import { type Test } from 'tap'
import type { Evidence } from '../../judge/evidence.ts'
import { judge } from '../../judge/judge.ts'
import { isCompletion, type Completion, type Invocation, type Line, type Operation, type OrderAnswered } from '../../history.ts'
import type { EventStored, OrderStored, Snapshot } from '../../target.ts'
import type { Invariant } from '../../verdict.ts'
import { evidence } from './true-history.ts'

export type Draft<T> = T extends ReadonlyArray<infer Item> ? Array<Draft<Item>> : T extends object ? { -readonly [Key in keyof T]: Draft<T[Key]> } : T

/** Picks one of them. If there is none, it gives this history up and takes another. */
export type Pick = <T>(from: readonly T[]) => T

/** A change of a true history. */
export type Change = (draft: Draft<Evidence>, pick: Pick) => void

/**
 * Asserts that for every history the verdict on the change names this invariant, and no other except those in `also`. A refusal
 * that was true for the original data may be false for the changed data.
 */
export function isCaught (t: Test, invariant: Invariant, damage: Change, also: Invariant[] = []): void {
  judged(t, damage, (verdict, broken) => {
    return verdict === 'broken' && broken.includes(invariant) && broken.every(other => other === invariant || other === 'falseRefusal' || also.includes(other))
  }, `broken, of ${invariant}`)
}

/** Asserts that for every history the change breaks no promise. */
export function isHeld (t: Test, change: Change = () => {}): void {
  judged(t, change, verdict => verdict === 'held', 'held')
}

function judged (t: Test, change: Change, isRight: (verdict: string, broken: Invariant[]) => boolean, right: string): void {
  const run = fc.check(fc.property(evidence, fc.nat(), (whole, number) => {
    const draft = structuredClone(whole) as Draft<Evidence>
    change(draft, from => {
      fc.pre(from.length > 0)
      return from[number % from.length]!
    })
    const { verdict, checked, missing, counterexamples: [shown] } = judge(draft)
    const broken = checked.filter(({ broken }) => broken > 0).map(({ invariant }) => invariant)
    if (!isRight(verdict, broken)) throw new Error(`${verdict}: ${[...broken, ...missing, shown?.says].join(', ')}`)
  }), { numRuns: 20, endOnFailure: true })
  // The history itself is long; the seed reproduces it.
  t.match(run, { failed: false }, `the verdict is ${right}, whatever the history`, { seed: run.seed, path: run.counterexamplePath, error: String(run.errorInstance) })
}

export function readsOf ({ first, second }: Draft<Evidence>): Array<Draft<Snapshot>> {
  return [first, second].flatMap(read => read ?? [])
}

/** The rows of an order in every read, as often as they are stored. */
export function rowsOf (draft: Draft<Evidence>, id: string): Array<Draft<OrderStored>> {
  return readsOf(draft).flatMap(({ orders }) => orders.filter(row => row.id === id))
}

export function eventsOf (draft: Draft<Evidence>, id: string): Array<Draft<EventStored>> {
  return readsOf(draft).flatMap(({ events = [] }) => events.filter(({ orderId }) => orderId === id))
}

/** The ids of orders that both reads contain. */
export function storedIds (draft: Draft<Evidence>, is: (row: Draft<OrderStored>) => boolean = () => true): string[] {
  return (draft.first?.orders ?? []).filter(is).map(({ id }) => id)
}

export interface Exchange { readonly invocation: Draft<Invocation>, readonly completion: Draft<Completion>, readonly settling: boolean }

export function exchanges (draft: Draft<Evidence>, is: (operation: Draft<Operation>, completion: Draft<Completion>) => boolean): Exchange[] {
  return [draft.history, draft.settle].flatMap((lines, part) => {
    const invocations = new Map(lines.flatMap(line => line.type === 'invoke' ? [[line.op, line] as const] : []))
    return lines.flatMap(line => {
      const invocation = 'op' in line ? invocations.get(line.op) : undefined
      return invocation && isCompletion(line as Line) && is(invocation.operation, line as Draft<Completion>)
        ? [{ invocation, completion: line as Draft<Completion>, settling: part === 1 }]
        : []
    })
  })
}

/** The answers that acknowledged an order, in time. */
export function acknowledgements (draft: Draft<Evidence>, id: string): Array<Exchange & { readonly order: Draft<OrderAnswered> }> {
  return exchanges(draft, ({ kind }, { type, order }) => kind === 'place' && type === 'ok' && order?.id === id)
    .map(exchange => ({ ...exchange, order: exchange.completion.order! }))
}

/** Ids that were acknowledged during the load, and are stored. */
export function acknowledgedIds (draft: Draft<Evidence>, is?: (row: Draft<OrderStored>) => boolean): string[] {
  return storedIds(draft, is).filter(id => acknowledgements(draft, id).some(({ settling }) => !settling))
}

/** Corrects the stock after a change of rows. */
export function stockUp (draft: Draft<Evidence>, items: ReadonlyArray<{ sku: string, quantity: number }>, sign: 1 | -1 = 1): void {
  for (const { sku, quantity } of items) {
    for (const product of draft.products) if (product.sku === sku) product.stock += sign * quantity
  }
}

/** Removes an order completely, with its events and its share of the stock. */
export function forget (draft: Draft<Evidence>, id: string, reads = readsOf(draft)): void {
  for (const read of reads) {
    for (const { status, items } of read.orders.filter(row => row.id === id)) {
      for (const { sku, quantity } of status === 'cancelled' ? [] : items) {
        for (const product of read.products ?? []) if (product.sku === sku) product.available += quantity
      }
    }
    read.orders = read.orders.filter(row => row.id !== id)
    read.events = (read.events ?? []).filter(({ orderId }) => orderId !== id)
  }
  if (reads.length > 1) unstream(draft, id)
}

/** One more row, in every read, with its event and its share of the stock. */
export function add (draft: Draft<Evidence>, row: OrderStored): void {
  for (const read of readsOf(draft)) {
    read.orders.push(structuredClone(row) as Draft<OrderStored>)
    read.events?.push({ orderId: row.id, version: 1, type: 'placed', delivered: true })
  }
  if (row.status !== 'cancelled') stockUp(draft, row.items)
}

/** Removes the events of these versions from the streams, and the streams' lines, so that none owes them. */
export function unstream (draft: Draft<Evidence>, id: string, is: (version: number) => boolean = () => true): void {
  const kept = (line: Draft<Line>): boolean => line.type !== 'stream' && (line.type !== 'event' || line.event.orderId !== id || !is(line.event.version))
  draft.history = draft.history.filter(kept)
  draft.settle = draft.settle.filter(kept)
}
