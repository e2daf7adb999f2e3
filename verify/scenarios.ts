import { UserError } from '../user-error.ts'
import { balancerMissing, usualBalancer, type BalancerName } from './balancer.ts'
import { all } from './faults/all.ts'
import broker from './faults/broker.ts'
import brownout, { brownouts } from './faults/brownout.ts'
import clock from './faults/clock.ts'
import databaseCrash from './faults/database-crash.ts'
import diskFull from './faults/disk-full.ts'
import failover from './faults/failover.ts'
import type { Needs, Scenario } from './faults/fault.ts'
import hostile, { hostiles } from './faults/hostile.ts'
import kill from './faults/kill.ts'
import payments from './faults/payments.ts'
import patroniFailover from './faults/patroni-failover.ts'
import restore from './faults/restore.ts'
import rolling from './faults/rolling.ts'
import term from './faults/term.ts'
import { together } from './faults/together.ts'
import { debianPostgres } from './postgres/debian.ts'
import { patroniMissing } from './postgres/patroni.ts'
import { volumeMissing } from './postgres/volume.ts'
import { clockMissing } from './service/clock.ts'
import type { Target } from './target.ts'

const scenarios: readonly Scenario[] = [term, kill, rolling, databaseCrash, failover, brownout, diskFull, restore, clock, broker, payments, hostile]

/** The single kinds of scenarios that have several. */
const kinds: readonly Scenario[] = [...brownouts, ...hostiles]

export const scenarioNames: readonly string[] = [...scenarios.map(({ name }) => name), 'all']

/** What promotes the standby in a failover. */
export const managerNames = ['harness', 'patroni'] as const
export type ManagerName = typeof managerNames[number]

interface Conditions {
  readonly target: Target
  /** The manager of scenarios that need one. */
  readonly balancer: BalancerName
  readonly manager: ManagerName
}

/** Why there is no such scenario; undefined for a valid one: one of `scenarioNames`, two of them at once, or several of these one after another. */
export function notAScenario (name: string): string | undefined {
  const names = name.split(',')
  if (names.length > 1) return names.includes('all') ? 'all includes the others' : names.map(notAScenario).find(why => why !== undefined)
  const [one, other] = partsOf(name)
  if (scenarioNames.includes(name) ||
    kinds.some(one => one.name === name) ||
    (one?.strikes !== undefined && other?.strikes !== undefined && one.strikes !== other.strikes)) return undefined
  const [first, second] = one !== undefined && other !== undefined ? [one.strikes, other.strikes] : []
  return first !== undefined && first === second
    ? `both strike the ${first}; two at once must strike two things, as term+database-crash do`
    : `it takes one of ${scenarioNames.join(', ')}, or two at once, as term+database-crash`
}

/** The one or two scenarios of a name; none for an invalid name. */
function partsOf (name: string, manager: ManagerName = 'harness'): Scenario[] {
  const known = [...manager === 'patroni' ? [patroniFailover] : [], ...scenarios, ...kinds]
  const parts = name.split('+').map(part => known.find(({ name }) => name === part))
  return parts.length <= 2 ? parts.filter(part => part !== undefined) : []
}

/**
 * @param name a valid name by `notAScenario`
 * @param leftOut called with what `all` leaves out, and why
 * @throws Error if this machine or this target lacks what the scenario needs
 */
export function scenarioFor (name: string, conditions: Conditions, leftOut: (line: string) => void): Scenario {
  const names = name.split(',')
  if (names.length > 1) return all(names.map(one => scenarioFor(one, conditions, leftOut)), name)
  const possible: Scenario[] = []
  for (const scenario of name === 'all' ? scenarios : partsOf(name, conditions.manager)) {
    const why = name === 'all' && (scenario.needs.dump === true || scenario.needs.gateway === true) ? alone : obstacle(scenario, conditions)
    if (why === undefined) possible.push(scenario)
    else if (name === 'all') leftOut(`without ${scenario.name}: ${why}`)
    else throw new UserError(`The scenario ${name} cannot be run, and nothing was started. ${why}`)
  }
  if (name === 'all') return all(possible)
  const [first, second] = possible
  if (first === undefined) throw new RangeError(`There is no scenario ${name}.`)
  return second === undefined ? first : together(first, second)
}

/** The reason for a scenario that needs another Postgres or a gateway. */
const alone = 'It needs a Postgres or a gateway of its own. Run it by itself.'

/** The scenarios that cannot run on this machine, and why, one line each. */
export function lackingHere (): string[] {
  const lacking = (name: string, needs: Needs): string[] => {
    const why = lackedHere(needs, usualBalancer)
    return why === undefined ? [] : [`${name}: ${why}`]
  }
  return [...scenarios.flatMap(({ name, needs }) => lacking(name, needs)), ...lacking('--manager patroni', patroniFailover.needs)]
}

/** Why the scenario cannot run. */
function obstacle ({ needs }: Scenario, { target, balancer }: Conditions): string | undefined {
  if (needs.database !== undefined && target.postgres === undefined) return `The target ${target.name} has no \`postgres\`, so the harness cannot disturb its database.`
  if (needs.consumer === true && target.consumer === undefined) return `The target ${target.name} has no \`consumer\`, so the harness does not receive its events.`
  if (needs.gateway === true && target.gateway === undefined) return `The target ${target.name} has no \`gateway\`, so it does not use the gateway of the harness.`
  const clock = needs.clock === true ? clockMissing(target) : undefined
  return clock ?? lackedHere(needs, balancer)
}

/** What the scenario needs and this machine lacks. */
function lackedHere ({ database, volume, dump, instances = 1 }: Needs, balancer: BalancerName): string | undefined {
  return (database === 'patroni' ? patroniMissing() : undefined) ??
    (volume === true ? volumeMissing() : undefined) ??
    (dump === true && debianPostgres() === undefined ? "It needs pg_dump and psql of Debian's PostgreSQL. Install it: apt-get install -y postgresql." : undefined) ??
    (instances > 1 ? balancerMissing(balancer) : undefined)
}
