import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, inTurn, oneOf, type Scenario } from './fault.ts'

const seconds = 1_000
const ways = { forward: 1, back: -1 } as const
const next = inTurn(Object.entries(ways))

/** The clock of an instance is set under load, by a little or by an hour, and corrected a few seconds later. Timers are not affected. */
const clock: Scenario = {
  name: 'clock',
  needs: { clock: true },
  strikes: 'clock',
  rest: [500, 2_000],
  async strike (world) {
    const { random } = world
    const { clock, index } = oneOf(world.instances, random)
    const [way, sign] = next(world)
    await world.burst()
    const at = now()
    await clock?.set(sign * oneOf([2 * seconds, 90 * seconds, 3_600 * seconds], random))
    await delay(between(random, [500, 4_000]))
    await clock?.set(0)
    world.record({ kind: `clock:${way}`, at, instance: index, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
  }
}

export default clock
