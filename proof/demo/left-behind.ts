import { setTimeout as delay } from 'node:timers/promises'
import { readAtRest } from '../../verify/at-rest.ts'
import { readHistory } from '../../verify/history-file.ts'
import { judge } from '../../verify/judge/judge.ts'
import type { PostgresServer } from '../../verify/postgres/server.ts'
import type { Lane, Tally } from './lane.ts'

/** What one service has left behind, from its clients' history and its database. Counts requests, which here are orders. */
export interface LeftBehind extends Tally {
  readonly name: string
  /** Cut or failed requests whose order is stored nevertheless. Their clients do not know. */
  readonly storedUnknown: number
  /** Transactions that began and were rolled back, by Postgres's own count. */
  readonly rolledBack: number
  /** Acknowledged orders that are not stored. */
  readonly missing: number
}

/** Longer than any of the services waits before it writes, so that an order which is still to be written does not count as missing. */
const restMs = 3_000

/** Ends the services first: Postgres counts the rollbacks of a session when the session ends. */
export async function leftBehind (lanes: readonly Lane[], server: PostgresServer): Promise<LeftBehind[]> {
  await delay(restMs)
  const reads = await Promise.all(lanes.map(async ({ target, run }) => await readAtRest(target, run)))
  await Promise.all(lanes.map(async ({ instance }) => await instance.stop('SIGTERM')))
  const rollbacks = await countRollbacks(server, lanes.map(({ name }) => name))
  return lanes.map(({ name, total, historyFile }, i) => {
    const { recovered, lost } = judge({
      scenario: 'demo',
      target: name,
      seed: 0,
      startedAt: '',
      duration: 0,
      environment: {},
      history: readHistory(historyFile).lines,
      settle: [],
      faults: [],
      products: [],
      first: reads[i],
      second: undefined,
      transitions: undefined,
      needed: { faultsInFlight: 0 }
    })
    return { name, ...total, storedUnknown: recovered, rolledBack: rollbacks.get(name) ?? NaN, missing: lost }
  })
}

async function countRollbacks (server: PostgresServer, databases: readonly string[]): Promise<Map<string, number>> {
  while ((await server.query('SELECT FROM pg_stat_activity WHERE datname = ANY($1)', [databases])).length > 0) await delay(20)
  const rows = await server.query<{ name: string, count: number }>(
    'SELECT datname AS name, xact_rollback::float8 AS count FROM pg_stat_database WHERE datname = ANY($1)', [databases])
  return new Map(rows.map(({ name, count }) => [name, count]))
}
