import { balancerMissing, type BalancerName } from './balancer.ts'
import { all } from './faults/all.ts'
import brownout from './faults/brownout.ts'
import databaseCrash from './faults/database-crash.ts'
import failover from './faults/failover.ts'
import type { Scenario } from './faults/fault.ts'
import kill from './faults/kill.ts'
import rolling from './faults/rolling.ts'
import term from './faults/term.ts'
import type { Target } from './target.ts'

const scenarios: readonly Scenario[] = [term, kill, rolling, databaseCrash, failover, brownout]

export const scenarioNames: readonly string[] = [...scenarios.map(({ name }) => name), 'all']

/**
 * @param name one of `scenarioNames`
 * @param balancer the one for those that need one
 * @param leftOut is told what `all` does without, and why
 * @throws Error where this machine or this target does not have what the scenario takes
 */
export function scenarioFor (name: string, target: Target, balancer: BalancerName, leftOut: (line: string) => void): Scenario {
  const possible: Scenario[] = []
  for (const scenario of scenarios.filter(scenario => name === 'all' || scenario.name === name)) {
    const why = obstacle(scenario, target, balancer)
    if (why === undefined) possible.push(scenario)
    else if (name === 'all') leftOut(`without ${scenario.name}: ${why}`)
    else throw new Error(`The scenario ${name} cannot be run, and nothing was started. ${why}`)
  }
  const [first] = possible
  if (first === undefined) throw new RangeError(`There is no scenario ${name}.`)
  return name === 'all' ? all(possible) : first
}

/** Why it cannot be run. */
function obstacle ({ needs }: Scenario, target: Target, balancer: BalancerName): string | undefined {
  if (needs.database !== undefined && target.postgres === undefined) return `The target ${target.name} has no \`postgres\`: its database is not the harness's to disturb.`
  return (needs.instances ?? 1) > 1 ? balancerMissing(balancer) : undefined
}
