import { inTurn, strongest, type Scenario } from './fault.ts'

/** One kind of fault after another, in a seeded sequence; none comes twice before each had its turn. */
export function all (scenarios: readonly Scenario[], name = 'all'): Scenario {
  const next = inTurn(scenarios)
  return {
    name,
    needs: strongest(scenarios),
    rest: [500, 2_000],
    strike: async world => await next(world).strike(world)
  }
}
