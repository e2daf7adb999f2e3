import { setTimeout as delay } from 'node:timers/promises'
import { now, type Time } from '../history.ts'
import type { PatroniCluster, PatroniNode } from '../postgres/patroni.ts'
import { between, inTurn, type Scenario, type World } from './fault.ts'

/** How the leader fails, and what repairs it when another one leads. */
interface Way {
  strike: (leader: PatroniNode, patroni: PatroniCluster) => Promise<void> | void
  mend: (old: PatroniNode) => Promise<void> | void
}

const wake = (old: PatroniNode): void => old.wake()

const ways: Readonly<Record<string, Way>> = {
  /** Kills Patroni and Postgres at once: nothing is left to release the lock, so its lease must expire. */
  killed: {
    strike: async leader => await leader.kill(),
    mend: async old => await old.start()
  },

  /** A switchover, like an operator's for maintenance. */
  switched: {
    strike: async (_, patroni) => await patroni.switchOver(),
    mend () {}
  },

  /** Cuts the leader off from etcd and its standbys, but not from its clients: they go on writing until it finds that it has lost the lock. */
  'cut-off': {
    strike: leader => leader.cutOff(),
    mend: old => old.rejoin()
  },

  /** Nothing demotes the old primary: with its clients, it goes on writing beside the new one until the proxy turns away. */
  'split-brain': {
    strike: leader => leader.pauseManager(),
    mend: wake
  },

  /** The whole node is paused, and wakes as a primary long after another has taken over. */
  paused: {
    strike: leader => leader.pause(),
    mend: wake
  }
}

const next = inTurn(Object.entries(ways))

/**
 * Patroni does the failover: it notices that the leader has gone and promotes the synchronous standby, and
 * deploy/haproxy/postgres.cfg follows it. The next round begins when the cluster is complete again.
 */
const patroniFailover: Scenario = {
  name: 'failover',
  needs: { database: 'patroni' },
  strikes: 'database',
  rest: [1_000, 4_000],
  async strike (world) {
    const patroni = patroniOf(world)
    const old = patroni.leader
    const [name, { strike, mend }] = next(world)
    await world.burst()
    const at = now()
    await strike(old, patroni)
    const leader = await patroni.anotherLeads(old)
    world.progress(`${leader.name} leads instead of ${old.name}`)
    const recoveredAt = await serves(world)
    // If the old one is alive, there are two primaries for this long.
    await delay(between(world.random, [0, 5_000]))
    await mend(old)
    await patroni.whole()
    await world.allReady()
    world.record({ kind: `failover:${name}`, at, exitCode: null, drainMs: null, recoveredAt })
  }
}

export default patroniFailover

/** Waits until the proxy has found the new leader, and the service is ready again. */
async function serves (world: World): Promise<Time> {
  await patroniOf(world).isReached()
  return await world.allReady()
}

function patroniOf ({ patroni }: World): PatroniCluster {
  if (patroni === undefined) throw new Error('The scenario has no Patroni to strike; its `needs` must name it.')
  return patroni
}
