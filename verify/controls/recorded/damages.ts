import type { Control } from '../control.ts'
import { exchangesOf, replaceRows, type Damaged, type Row } from './damaged.ts'

export interface Damage extends Control {
  readonly damage: (evidence: Damaged) => void
}

/** Each is one thing that a service which breaks that promise would leave behind. */
export const damages: readonly Damage[] = [
  { name: 'recorded-dropped', broken: 'One row is taken out', expected: 'lost', damage: evidence => stored(evidence, () => []) },
  { name: 'recorded-doubled', broken: 'One row stands twice', expected: 'duplicated', damage: evidence => stored(evidence, row => [row, row]) },
  { name: 'recorded-total', broken: 'One total is another', expected: 'wrongContent', damage: evidence => stored(evidence, row => [{ ...row, total: row.total + 1 }]) }
]

/** The rows of the first order that was acknowledged. */
function stored (evidence: Damaged, by: (row: Row) => Row[]): void {
  const [{ answer }] = exchangesOf(evidence, 'acknowledged order', ({ asked, answer }) => asked.operation.kind === 'place' && answer.order !== undefined)
  replaceRows(evidence, answer.order?.id ?? '', by)
}
