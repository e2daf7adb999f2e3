import { setTimeout as delay } from 'node:timers/promises'
import { random } from '../random.ts'
import { between, strongest, type Scenario, type World } from './fault.ts'

/** ms between the two blows: the second one hits the stop, the crash or the recovery that the first has begun. */
const apart = [0, 400] as const
const pollMs = 50

/** Two faults at once; either may begin a moment earlier. Each repairs what it struck, and the round is over when both have. */
export function together (one: Scenario, other: Scenario): Scenario {
  const halves = new WeakMap<World, Halves>()
  return {
    name: `${one.name}+${other.name}`,
    needs: strongest([one, other]),
    rest: [Math.min(one.rest[0], other.rest[0]), Math.max(one.rest[1], other.rest[1])],
    async strike (world) {
      const { going, worlds } = halves.get(world) ?? halvesOf(world)
      halves.set(world, { going, worlds })
      const late = between(world.random, apart)
      const isOneFirst = world.random() < 0.5
      const blow = async (scenario: Scenario, half: World, isFirst: boolean): Promise<void> => {
        going.add(half)
        if (!isFirst) await delay(late)
        await scenario.strike(half)
        going.delete(half)
      }
      await Promise.all([blow(one, worlds[0], isOneFirst), blow(other, worlds[1], !isOneFirst)])
    }
  }
}

interface Halves {
  /** The worlds whose fault is not repaired yet. */
  readonly going: Set<World>
  readonly worlds: readonly [World, World]
}

/** The world as each of two faults sees it: a step that fails while the other fault goes on is retried, as a supervisor would. */
function halvesOf (world: World): Halves {
  const going = new Set<World>()
  const half = (): World => {
    const persist = async <T>(act: () => Promise<T>): Promise<T> => {
      for (;;) {
        const isExcused = going.size > 1
        try {
          return await act()
        } catch (error) {
          if (!isExcused) throw error
          await delay(pollMs)
        }
      }
    }
    return {
      ...world,
      // Each has its own random numbers, because the machine's timing decides which of the two draws next.
      random: random(Math.floor(world.random() * 2 ** 32)),
      start: async instance => await persist(async () => await world.start(instance)),
      allReady: async () => await persist(world.allReady)
    }
  }
  return { going, worlds: [half(), half()] }
}
