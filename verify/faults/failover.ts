import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, databaseOf, inTurn, type Scenario, type World } from './fault.ts'

/** What becomes of the old primary; each resolves when the proxy leads to the new one. */
const ways: Readonly<Record<string, (world: World) => Promise<void>>> = {
  async killed (world) {
    const { cluster, proxy } = databaseOf(world)
    await cluster.failOver()
    proxy.switchTo(cluster.primary.port)
  },

  /**
   * It is paused for so long that its standby is promoted, and wakes in the middle of what it did. Its clients are on it still, or were
   * led away: what it is asked it does, and must not be able to acknowledge.
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
 * The primary is taken away in mid-load, its synchronous standby is promoted, and the proxy leads there. The next round comes
 * when there is a synchronous standby again: without one, what is acknowledged is on one disk only.
 */
const failover: Scenario = {
  name: 'failover',
  needs: { database: 'replicated' },
  strikes: 'database',
  rest: [1_000, 4_000],
  async strike (world) {
    const { cluster } = databaseOf(world)
    const [way, strike] = next(world)
    // So near a standby hardly ever lacks anything: asynchronous replication would pass for synchronous.
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
