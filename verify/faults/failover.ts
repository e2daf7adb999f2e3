import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, databaseOf, inTurn, type Scenario, type World } from './fault.ts'

/** What happens to the old primary. Each resolves when the proxy leads to the new one. */
const ways: Readonly<Record<string, (world: World) => Promise<void>>> = {
  async killed (world) {
    const { cluster, proxy } = databaseOf(world)
    await cluster.failOver()
    proxy.switchTo(cluster.primary.port)
  },

  /**
   * The primary is paused until its standby is promoted, and then wakes in the middle of its work. Its clients are still
   * connected, or were led away. It executes statements, and must not be able to acknowledge them.
   */
  async paused (world) {
    const { cluster, proxy } = databaseOf(world)
    const clientsStay = world.random() < 0.5
    const old = await cluster.depose()
    if (!clientsStay) proxy.switchTo(cluster.primary.port)
    old.wake()
    await delay(between(world.random, [200, 4_000]))
    if (clientsStay) proxy.switchTo(cluster.primary.port)
  }
}

const next = inTurn(Object.entries(ways))

/**
 * The primary fails under load, its synchronous standby is promoted, and the proxy leads there. The next round begins when
 * there is a synchronous standby again: without one, acknowledged commits are on one disk only.
 */
const failover: Scenario = {
  name: 'failover',
  needs: { database: 'replicated' },
  strikes: 'database',
  rest: [1_000, 4_000],
  async strike (world) {
    const { cluster } = databaseOf(world)
    const [way, strike] = next(world)
    // A standby on the same machine almost never lags: asynchronous replication would look like synchronous.
    await cluster.holdBackStandby()
    await delay(between(world.random, [0, 500]))
    await world.burst()
    const at = now()
    await strike(world)
    world.record({ kind: `failover:${way}`, at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
    await cluster.retire()
    await cluster.addStandby()
    world.progress('a new standby is synchronous')
  }
}

export default failover
