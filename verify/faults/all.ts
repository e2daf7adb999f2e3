import { oneOf, type Needs, type Scenario } from './fault.ts'

/** One kind of fault after another, in a seeded order. */
export function all (scenarios: readonly Scenario[]): Scenario {
  const needs = scenarios.map(({ needs }) => needs)
  const database = (['replicated', 'proxied', 'direct'] as const).find(kind => needs.some(({ database }) => database === kind))
  return {
    name: 'all',
    needs: { instances: Math.max(...needs.map(({ instances = 1 }: Needs) => instances)), ...database === undefined ? {} : { database } },
    rest: [500, 2_000],
    strike: async world => await oneOf(scenarios, world.random).strike(world)
  }
}
