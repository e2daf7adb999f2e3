import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { signalProcess } from '../../postgres/postmaster.ts'
import type { Passing } from '../proxy.ts'
import { between, databaseOf, oneOf, type Scenario, type World } from './fault.ts'

/** The database or the service is up and impaired in one of these ways, for a few seconds at most. */
const kinds: Readonly<Record<string, (world: World) => Promise<void>>> = {
  /** Sessions end in the middle of a statement or its commit. */
  async 'backends-terminated' (world) {
    const { cluster: { primary } } = databaseOf(world)
    await primary.session(async client => {
      for (let times = between(world.random, [1, 20]); times > 0; times--) {
        await client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${isClient} AND state = 'active'`)
        await delay(between(world.random, [1, 50]))
      }
    })
  },

  /** The database executes statements and its answers are lost, above all those of commits. */
  async 'answers-cut' (world) {
    await passing(world, 'cut-answers', [20, 500])
  },

  /** The network swallows everything; the connections stay open. */
  async 'black-hole' (world) {
    await passing(world, 'blackhole', [500, 5_000])
  },

  /** The network refuses every connection. */
  async unreachable (world) {
    await passing(world, 'refuse', [200, 3_000])
  },

  async latency (world) {
    const { proxy } = databaseOf(world)
    proxy.latencyMs = between(world.random, [200, 2_000])
    await delay(between(world.random, [1_000, 5_000]))
    proxy.latencyMs = 0
  },

  async 'service-paused' ({ instances, random }) {
    const instance = oneOf(instances, random)
    instance.signal('SIGSTOP')
    await delay(between(random, [200, 4_000]))
    instance.signal('SIGCONT')
  },

  /** A paused backend keeps its locks: those on rows, and those that the whole server waits for. */
  async 'backend-paused' (world) {
    const { cluster: { primary } } = databaseOf(world)
    const backends = await primary.query<{ pid: number }>(`SELECT pid FROM pg_stat_activity WHERE ${isClient}`)
    if (backends.length === 0) return
    const { pid } = oneOf(backends, world.random)
    signalProcess(pid, 'SIGSTOP')
    await delay(between(world.random, [200, 4_000]))
    signalProcess(pid, 'SIGCONT')
  },

  /** Every statement waits for a lock, until no connection is left. */
  async 'pool-exhausted' (world) {
    const { cluster } = databaseOf(world)
    await cluster.primary.session(async client => {
      const { rows } = await client.query<{ tables: string | null }>(`
        SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') AS tables
        FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
      if (rows[0]?.tables == null) return
      const locked = async (): Promise<boolean> => {
        await client.query('BEGIN')
        return await client.query(`LOCK TABLE ${rows[0]?.tables} IN ACCESS EXCLUSIVE MODE`).then(() => true, async (error: { code?: string }) => {
          await client.query('ROLLBACK')
          // It locks one table after another, and so may a transaction under way: one of the two has to yield.
          if (error.code !== '40P01') throw error
          return false
        })
      }
      while (!await locked());
      await delay(between(world.random, [500, 6_000]))
      await client.query('ROLLBACK')
    }, cluster.database)
  }
}

const isClient = "backend_type = 'client backend' AND pid <> pg_backend_pid()"

const brownout = ofKinds('brownout', Object.keys(kinds))

export default brownout

/** Each kind as a scenario of its own: `brownout:answers-cut`. */
export const brownouts: readonly Scenario[] = Object.keys(kinds).map(name => ofKinds(`brownout:${name}`, [name]))

function ofKinds (name: string, names: readonly string[]): Scenario {
  return {
    name,
    needs: { database: 'proxied' },
    strikes: 'database',
    rest: [500, 2_000],
    async strike (world) {
      const [name, strike] = oneOf(Object.entries(kinds).filter(([name]) => names.includes(name)), world.random)
      await world.burst()
      const at = now()
      await strike(world)
      world.record({ kind: `brownout:${name}`, at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
    }
  }
}

async function passing (world: World, how: Passing, duration: readonly [from: number, to: number]): Promise<void> {
  const { proxy } = databaseOf(world)
  proxy.pass(how)
  await delay(between(world.random, duration))
  proxy.pass('forward')
}
