import { shuffled } from '../shuffled.ts'
import { medianOf, type Figures } from './figures.ts'

/** What the order service did at a size: so many orders stored before, or instances of it. Medians over the rounds. */
export interface Sized extends Figures {
  readonly size: number
  readonly rounds: readonly Figures[]
}

/** Measures each size once in each round, in an order of its own. */
export async function medians (sizes: readonly number[], rounds: number, next: () => number, measure: (size: number, round: number) => Promise<Figures>): Promise<Sized[]> {
  const measured = new Map<number, Figures[]>(sizes.map(size => [size, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const [size, figures] of shuffled([...measured], next)) figures.push(await measure(size, round))
  }
  return [...measured].map(([size, rounds]) => ({ size, rounds, ...medianOf(rounds) }))
}
