import { shuffled } from '../shuffled.ts'
import { medianOf, type Figures } from './figures.ts'

/** The figures of the order service at a size: a number of orders stored before, or of instances. Medians over the rounds. */
export interface Sized extends Figures {
  readonly size: number
  readonly rounds: readonly Figures[]
}

/** Measures each size once in each round; the sequence is shuffled. */
export async function medians (
  sizes: readonly number[],
  rounds: number,
  next: () => number,
  measure: (size: number, round: number) => Promise<Figures>
): Promise<Sized[]> {
  const measured = new Map<number, Figures[]>(sizes.map(size => [size, []]))
  for (let round = 1; round <= rounds; round++) {
    for (const [size, figures] of shuffled([...measured], next)) figures.push(await measure(size, round))
  }
  return [...measured].map(([size, rounds]) => ({ size, rounds, ...medianOf(rounds) }))
}
