import { now } from '../history.ts'
import { databaseOf, oneOf, type Scenario } from './fault.ts'

/** Postgres ends at once under load, by its immediate mode or by SIGKILL to all its processes, and recovers. */
const databaseCrash: Scenario = {
  name: 'database-crash',
  needs: { database: 'direct' },
  strikes: 'database',
  rest: [500, 2_000],
  async strike (world) {
    const { cluster } = databaseOf(world)
    const how = oneOf(['immediate', 'kill'] as const, world.random)
    await world.burst()
    const at = now()
    await cluster.crash(how)
    await cluster.recover()
    world.record({ kind: `database-crash:${how}`, at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
  }
}

export default databaseCrash
