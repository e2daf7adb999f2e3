import { setTimeout as delay } from 'node:timers/promises'
import { now, type Time } from '../history.ts'
import type { PatroniCluster, PatroniNode } from '../postgres/patroni.ts'
import { between, inTurn, type Scenario, type World } from './fault.ts'

/** How the leader is taken away, and what mends it when another leads. */
interface Way {
  strike: (leader: PatroniNode, patroni: PatroniCluster) => Promise<void> | void
  mend: (old: PatroniNode) => Promise<void> | void
}

const wake = (old: PatroniNode): void => old.wake()

const ways: Readonly<Record<string, Way>> = {
  /** Patroni and Postgres at once: nobody is left who could give the lock back, and its lease must run out. */
  killed: {
    strike: async leader => await leader.kill(),
    mend: async old => await old.start()
  },

  /** As an operator does, for maintenance. */
  switched: {
    strike: async (_, patroni) => await patroni.switchOver(),
    mend () {}
  },

  /** From etcd and from its standbys, but not from its clients: they go on writing, until it finds that it holds no lock any more. */
  'cut-off': {
    strike: leader => leader.cutOff(),
    mend: old => old.rejoin()
  },

  /** Nobody demotes the old primary: it goes on writing beside the new one, with its clients, until the proxy turns away. */
  'split-brain': {
    strike: leader => leader.pauseManager(),
    mend: wake
  },

  /** The whole node stands still, and wakes as a primary when another has long taken over. */
  paused: {
    strike: leader => leader.pause(),
    mend: wake
  }
}

const next = inTurn(Object.entries(ways))

/**
 * The failover is Patroni's: it finds out that the leader has gone, chooses the synchronous standby, and deploy/haproxy/postgres.cfg
 * follows it. The next round comes when the cluster is whole again.
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
    // Where the old one is alive, this is how long there are two.
    await delay(between(world.random, [0, 5_000]))
    await mend(old)
    await patroni.whole()
    await world.allReady()
    world.record({ kind: `failover:${name}`, at, exitCode: null, drainMs: null, recoveredAt })
  }
}

export default patroniFailover

/** The proxy has found the new leader, and the service the proxy. */
async function serves (world: World): Promise<Time> {
  await patroniOf(world).isReached()
  return await world.allReady()
}

function patroniOf ({ patroni }: World): PatroniCluster {
  if (patroni === undefined) throw new Error('The scenario has no Patroni to strike; its `needs` must name it.')
  return patroni
}
