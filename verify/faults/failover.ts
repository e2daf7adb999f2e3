import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, databaseOf, type Scenario } from './fault.ts'

/**
 * The primary is killed in mid-load, its synchronous standby is promoted, and the proxy leads there. The next round comes
 * when there is a synchronous standby again: without one, what is acknowledged is on one disk only.
 */
const failover: Scenario = {
  name: 'failover',
  needs: { database: 'replicated' },
  rest: [1_000, 4_000],
  async strike (world) {
    const { cluster, proxy } = databaseOf(world)
    // So near a standby hardly ever lacks anything: asynchronous replication would pass for synchronous.
    await cluster.holdBackStandby()
    await delay(between(world.random, [0, 500]))
    const at = now()
    await cluster.failOver()
    proxy.switchTo(cluster.primary.port)
    world.record({ kind: 'failover', at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
    await cluster.addStandby()
    world.progress('a new standby is synchronous')
  }
}

export default failover
