import { balancerMissing, type BalancerName } from './balancer.ts'
import { all } from './faults/all.ts'
import broker from './faults/broker.ts'
import brownout from './faults/brownout.ts'
import databaseCrash from './faults/database-crash.ts'
import failover from './faults/failover.ts'
import type { Scenario } from './faults/fault.ts'
import kill from './faults/kill.ts'
import rolling from './faults/rolling.ts'
import term from './faults/term.ts'
import { together } from './faults/together.ts'
import type { Target } from './target.ts'

const scenarios: readonly Scenario[] = [term, kill, rolling, databaseCrash, failover, brownout, broker]

export const scenarioNames: readonly string[] = [...scenarios.map(({ name }) => name), 'all']

/** Why there is no such scenario; undefined where there is one: one of `scenarioNames`, or two of them at once. */
export function notAScenario (name: string): string | undefined {
  const [one, other] = partsOf(name)
  if (scenarioNames.includes(name) || (one !== undefined && other !== undefined && one.strikes !== undefined && other.strikes !== undefined && one.strikes !== other.strikes)) return undefined
  const [first, second] = one !== undefined && other !== undefined ? [one.strikes, other.strikes] : []
  return first !== undefined && first === second
    ? `both strike the ${first}; two at once must strike two things, as term+database-crash do`
    : `it takes one of ${scenarioNames.join(', ')}, or two at once, as term+database-crash`
}

/** The scenarios of a name, where it names one or two; none for any other. */
function partsOf (name: string): Scenario[] {
  const parts = name.split('+').map(part => scenarios.find(({ name }) => name === part))
  return parts.length <= 2 ? parts.filter(part => part !== undefined) : []
}

/**
 * @param name one of which `notAScenario` says nothing
 * @param balancer the one for those that need one
 * @param leftOut is told what `all` does without, and why
 * @throws Error where this machine or this target does not have what the scenario takes
 */
export function scenarioFor (name: string, target: Target, balancer: BalancerName, leftOut: (line: string) => void): Scenario {
  const possible: Scenario[] = []
  for (const scenario of name === 'all' ? scenarios : partsOf(name)) {
    const why = obstacle(scenario, target, balancer)
    if (why === undefined) possible.push(scenario)
    else if (name === 'all') leftOut(`without ${scenario.name}: ${why}`)
    else throw new Error(`The scenario ${name} cannot be run, and nothing was started. ${why}`)
  }
  if (name === 'all') return all(possible)
  const [first, second] = possible
  if (first === undefined) throw new RangeError(`There is no scenario ${name}.`)
  return second === undefined ? first : together(first, second)
}

/** Why it cannot be run. */
function obstacle ({ needs }: Scenario, target: Target, balancer: BalancerName): string | undefined {
  if (needs.database !== undefined && target.postgres === undefined) return `The target ${target.name} has no \`postgres\`: its database is not the harness's to disturb.`
  if (needs.consumer === true && target.consumer === undefined) return `The target ${target.name} has no \`consumer\`: its events go past the harness.`
  return (needs.instances ?? 1) > 1 ? balancerMissing(balancer) : undefined
}
