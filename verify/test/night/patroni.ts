import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import t from 'tap'
import type { World } from '../../faults/fault.ts'
import failover from '../../faults/patroni-failover.ts'
import { now } from '../../history.ts'
import { PatroniCluster, patroniMissing } from '../../postgres/patroni.ts'
import { withClient } from '../../../postgres/with-client.ts'
import { random } from '../../random.ts'

// Takes some minutes, because each lease has to expire. .ci/nightly runs it; neither `npm test` nor `npm run test:long` does.

t.setTimeout(900_000)

t.test('after every fault of the leader another node leads, and has every acknowledged commit', { skip: patroniMissing() ?? false }, async t => {
  const patroni = await PatroniCluster.create({ postgres: { binaries: () => { throw new Error("Patroni's Postgres is Debian's.") } }, directory: t.testdir() })
  t.teardown(() => patroni.close())
  await withClient(patroni.proxiedUrl, async client => await client.query('CREATE TABLE rows (number int PRIMARY KEY)'))
  const writing = writeRows(patroni)

  const kinds: string[] = []
  const world = {
    patroni,
    random: random(1),
    allReady: async () => now(),
    burst: async () => {},
    progress: line => t.comment(line),
    record: ({ kind }) => kinds.push(kind)
  } as Partial<World> as World
  for (let times = 0; times < 5; times++) {
    const { leader: { name } } = patroni
    const before = writing.acknowledged.length
    await failover.strike(world)
    t.not(patroni.leader.name, name, `after ${kinds.at(-1)}`)
    // The last of them may still be in flight.
    while (writing.acknowledged.length === before) await delay(50)
  }
  t.strictSame(kinds.sort(), ['cut-off', 'killed', 'paused', 'split-brain', 'switched'].map(way => `failover:${way}`))

  const acknowledged = await writing.stop()
  const stored = new Set((await withClient(patroni.url, async client => (await client.query<{ number: number }>('SELECT number FROM rows')).rows)).map(({ number }) => number))
  t.same(acknowledged.filter(number => !stored.has(number)), [], `none of ${acknowledged.length} commits is missing`)
  t.ok(writing.failed > 0, 'some inserts were in flight')
})

/** Inserts one row after another through the proxy, in several sessions, and goes on after failures. */
function writeRows (patroni: PatroniCluster) {
  const writing = { acknowledged: [] as number[], failed: 0, stop }
  const stopping = new AbortController()
  let number = 0
  const insert = async (client: pg.Client): Promise<void> => {
    while (!stopping.signal.aborted) {
      const mine = number++
      await client.query({ text: 'INSERT INTO rows VALUES ($1)', values: [mine] })
      writing.acknowledged.push(mine)
      await delay(5)
    }
  }
  const sessions = Promise.all(Array.from({ length: 4 }, async () => {
    while (!stopping.signal.aborted) {
      await withClient(patroni.proxiedUrl, insert).catch(() => { writing.failed++ })
      await delay(20)
    }
  }))
  async function stop (): Promise<number[]> {
    stopping.abort()
    await sessions
    return writing.acknowledged
  }
  return writing
}
