import { readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { orderStatuses, paymentMoves, paymentStates, serviceMoves, transitions } from '../../orders/order.ts'

// Draws the states of orders and payments, from the tables that the service itself goes by, into docs/orders-and-payments.md.

export const document = join(import.meta.dirname, '../orders-and-payments.md')

const [begin, end] = ['<!-- states: begin -->', '<!-- states: end -->']

interface Move {
  by: string
  from: readonly string[]
  to: string
}

/** @throws where the text has no place for the diagrams */
export function withStates (text: string): string {
  const [before, rest] = text.split(begin)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined) throw new Error(`docs/orders-and-payments.md lacks "${begin}" or "${end}". Nothing was drawn; put them back where the diagrams belong.`)
  const orders = Object.entries({ ...transitions, ...serviceMoves }).map(([by, { from, to }]) => ({ by, from, to }))
  return `${before}${begin}
An order, by what is asked for it, and by what the service does itself (*expire*, *capture failed*):

${diagram('placed', orderStatuses, orders)}

A payment, by what the gateway says of it, and by what becomes of its order (*ship*, *cancel*):

${diagram('requested', paymentStates, paymentMoves)}
${end}${after}`
}

/** One arrow from a state to another, with all that leads there. */
function diagram (first: string, states: readonly string[], moves: readonly Move[]): string {
  const arrows = states.flatMap(from => states.flatMap(to => {
    const by = new Set(moves.filter(move => move.to === to && move.from.includes(from)).map(({ by }) => by.replaceAll('-', ' ')))
    return by.size === 0 ? [] : [`  ${from} --> ${to}: ${[...by].join(', ')}`]
  }))
  const ends = states.filter(state => !moves.some(({ from }) => from.includes(state))).map(state => `  ${state} --> [*]`)
  return ['```mermaid', 'stateDiagram-v2', `  [*] --> ${first}`, ...arrows, ...ends, '```'].join('\n')
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  writeFileSync(document, withStates(readFileSync(document, 'utf8')))
}
