import type { Completion, Invocation, Line } from '../../../verify/history.ts'
import type { Evidence } from '../../../verify/judge/evidence.ts'
import type { EventStored, OrderStored } from '../../../verify/target.ts'
import { UserError } from '../../../user-error.ts'

type Open<T> = T extends ReadonlyArray<infer Item> ? Array<Open<Item>> : T extends object ? { -readonly [Key in keyof T]: Open<T[Key]> } : T

/** Evidence that may be changed. */
export type Damaged = Open<Evidence>
export type Row = Open<OrderStored>
export type OpenLine = Open<Line>

/** One request and its answer. */
export interface Exchange {
  readonly asked: Open<Invocation>
  readonly answer: Open<Completion>
}

/** What `is` says, of what the clients asked and were told. @throws Error where there is none: that would be no control */
export function exchangesIn (lines: readonly OpenLine[], what: string, is: (exchange: Exchange) => boolean): [Exchange, ...Exchange[]] {
  const asked = new Map(lines.flatMap(line => line.type === 'invoke' ? [[line.op, line] as const] : []))
  const [first, ...others] = lines.flatMap(line => {
    if (line.type !== 'ok' && line.type !== 'fail' && line.type !== 'info') return []
    const invocation = asked.get(line.op)
    const exchange = invocation && { asked: invocation, answer: line }
    return exchange && is(exchange) ? [exchange] : []
  })
  if (first === undefined) throw new UserError(`The recorded run has no ${what} to be damaged, and nothing was proved. Record a longer one.`)
  return [first, ...others]
}

/** In every read: of the rows of an order, those that stand in the place of each. */
export function replaceRows ({ first, second }: Damaged, id: string, by: (row: Row) => Row[]): void {
  for (const read of [first, second]) {
    if (read) read.orders = read.orders.flatMap(row => row.id === id ? by(row) : [row])
  }
}

/** In every read: of the events of an order, those that stand in the place of each. */
export function replaceEvents ({ first, second }: Damaged, id: string, by: (event: Open<EventStored>) => Array<Open<EventStored>>): void {
  for (const read of [first, second]) {
    if (read?.events) read.events = read.events.flatMap(event => event.orderId === id ? by(event) : [event])
  }
}
