import { oneOf, strongest, type Scenario } from './fault.ts'

/** One kind of fault after another, in a seeded order. */
export function all (scenarios: readonly Scenario[]): Scenario {
  return {
    name: 'all',
    needs: strongest(scenarios),
    rest: [500, 2_000],
    strike: async world => await oneOf(scenarios, world.random).strike(world)
  }
}
