import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, databaseOf, type Scenario } from './fault.ts'

/**
 * Moves the database into a new cluster by pg_dump | psql, as for an upgrade of Postgres. The old one takes no writes from just
 * before the dump, and the proxy leads to the new one when it is restored, so that nothing may be lost. In the new cluster,
 * transaction ids begin anew, and rows have other physical places.
 */
const restore: Scenario = {
  name: 'restore',
  needs: { database: 'proxied', dump: true },
  strikes: 'database',
  rest: [1_000, 4_000],
  async strike (world) {
    const { cluster, proxy } = databaseOf(world)
    await world.burst()
    const at = now()
    await cluster.closeForWrites()
    await cluster.move()
    await delay(between(world.random, [0, 1_000]))
    proxy.switchTo(cluster.primary.port)
    world.record({ kind: 'restore', at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
    await cluster.retire()
  }
}

export default restore
