import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import type { Cluster } from '../postgres/cluster.ts'
import { between, databaseOf, inTurn, type Scenario } from './fault.ts'

/** More than Postgres keeps in reserve. */
const segments = 64

/** What runs out of room first. */
const ways: Readonly<Record<string, (cluster: Cluster) => Promise<void>>> = {
  /** A table cannot grow, and the statement fails. */
  async data () {},

  /** The log cannot grow, and Postgres ends itself. It cannot recover before there is room again. */
  async wal ({ primary }) {
    await primary.session(async client => {
      for (let times = 0; times < segments; times++) await client.query("SELECT pg_logical_emit_message(false, 'verify', ''), pg_switch_wal()")
    }).catch(() => {})
  }
}

const next = inTurn(Object.entries(ways))

/** The disk of Postgres is full under load, and has room again a few seconds later. */
const diskFull: Scenario = {
  name: 'disk-full',
  needs: { database: 'direct', volume: true },
  strikes: 'database',
  rest: [500, 2_000],
  async strike (world) {
    const { cluster } = databaseOf(world)
    const [name, use] = next(world)
    await world.burst()
    const at = now()
    await cluster.fillDisk()
    await use(cluster)
    await delay(between(world.random, [500, 4_000]))
    await cluster.freeDisk()
    world.record({ kind: `disk-full:${name}`, at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
  }
}

export default diskFull
