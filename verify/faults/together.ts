import { setTimeout as delay } from 'node:timers/promises'
import { random } from '../random.ts'
import { between, strongest, type Scenario, type World } from './fault.ts'

/** ms between the two blows: the second falls into what the first has begun, a stop, a crash or the recovery from it. */
const apart = [0, 400] as const
const pollMs = 50

/** Two faults at once, the one or the other a moment before. Each mends what it has struck; the round is over when both have. */
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
  /** The worlds whose fault is not mended. */
  readonly going: Set<World>
  readonly worlds: readonly [World, World]
}

/** The world as each of two faults sees it: what fails there while the other goes on is tried again, as a supervisor does. */
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
      // Numbers of its own: which of the two draws next is the machine's to say.
      random: random(Math.floor(world.random() * 2 ** 32)),
      start: async instance => await persist(async () => await world.start(instance)),
      allReady: async () => await persist(world.allReady)
    }
  }
  return { going, worlds: [half(), half()] }
}
