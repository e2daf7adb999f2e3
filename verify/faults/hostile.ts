import { setTimeout as delay } from 'node:timers/promises'
import { crowdNames, gather, type CrowdName } from '../hostile/crowds.ts'
import { between, inTurn, oneOf, type Scenario } from './fault.ts'

/** ms that a crowd has before the signal: some clients are there when the stop begins, and some are gone by then. */
const goingOnMs = [100, 6_000] as const

const hostile = ofCrowds('hostile', crowdNames)

/** An instance has a crowd of hostile clients, and gets SIGTERM while they are there. */
export default hostile

/** Each kind of crowd as a scenario of its own: `hostile:slow-readers`. */
export const hostiles: readonly Scenario[] = crowdNames.map(name => ofCrowds(`hostile:${name}`, [name]))

function ofCrowds (name: string, names: readonly CrowdName[]): Scenario {
  const next = inTurn(names)
  return {
    name,
    needs: {},
    strikes: 'service',
    rest: [500, 2_500],
    async strike (world) {
      const { instances, target, start, allReady, burst, random, record } = world
      const name = next(world)
      const instance = oneOf(instances, random)
      const crowd = await gather(name, { url: instance.url, target })
      try {
        await delay(between(random, goingOnMs))
        await burst()
        const { at, exitCode, drainMs, phases, report, probes } = await instance.stop('SIGTERM')
        await start(instance)
        record({
          kind: `hostile:${name}`,
          at,
          instance: instance.index,
          exitCode,
          drainMs,
          ...phases && { phases },
          ...report && { report },
          probes: probes + crowd.asked,
          recoveredAt: await allReady()
        })
      } finally {
        crowd.leave()
      }
    }
  }
}
