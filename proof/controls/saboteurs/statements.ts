import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Job, Saboteur } from './saboteur.ts'
import { atSignal, wrap } from './wrap.ts'

/** Saboteurs of statements on their way to Postgres. */
export const statements = {
  'pool-closes-at-once': {
    install ({ did }) {
      const pools = new Set<pg.Pool>()
      wrap(pg.Pool.prototype, 'connect', (connect, args, pool) => {
        if (pool instanceof pg.Pool) pools.add(pool)
        return connect(args)
      })
      atSignal(() => {
        did('')
        for (const pool of pools) void pool.end().catch(() => {})
      })
    }
  },
  'place-rolled-back': {
    install: job => spoilStatements(/place_orders/, statement => {
      const customers = new Set(batchIn(statement).customers)
      return [...customers].every(job.may) ? rolledBack(statement, () => customers.forEach(job.did)) : statement.send()
    })
  },
  'move-rolled-back': {
    install: ({ may, did }) => spoilStatements(/move_order/, statement => {
      const customer = String(statement.values[1])
      return may(customer) ? rolledBack(statement, () => did(customer)) : statement.send()
    }),
    // Some of them would have changed nothing.
    limit: 8
  },
  'one-fingerprint': {
    install: ({ may, did }) => spoilStatements(/place_orders/, statement => {
      const batch = batchIn(statement)
      const fingerprints = batch.fingerprints.map((fingerprint, i) => {
        const customer = batch.customers[i] ?? ''
        if (!may(customer)) return fingerprint
        did(customer)
        return '00'
      })
      return statement.send([JSON.stringify({ ...batch, fingerprints }), ...statement.values.slice(1)])
    }),
    limit: Infinity
  },
  // Deliveries take a moment, so that a kill hits some.
  'lease-ends-unpublished': {
    install ({ did }) {
      wrap(globalThis, 'fetch', async (fetch, args) => {
        await delay(200)
        return await fetch(args)
      })
      spoilStatements(/DELETE FROM outbox_leases WHERE expires_at/, ({ sendText }) => {
        did('')
        return sendText('DELETE FROM outbox_leases WHERE expires_at <= now()')
      })
    }
  },
  // Every fourth one.
  'published-not-marked': { install: ({ did }) => spoilStatements(/mark_published|DELETE FROM outbox_leases WHERE tx/, every(4, swallowed, did)) }
} as const satisfies Record<string, Saboteur>

interface Statement {
  readonly values: readonly unknown[]
  readonly send: (values?: readonly unknown[]) => unknown
  /** Sends another statement, without values, in its place. */
  readonly sendText: (text: string) => unknown
  /** Sends another statement before or after it, on the same connection. */
  readonly also: (text: string) => void
  /** Answers the sender, because Postgres will not. */
  readonly answer: (result: Pick<pg.QueryArrayResult, 'rows' | 'rowCount' | 'fields' | 'command'>) => unknown
}

type Spoil = (statement: Statement) => unknown

function spoilStatements (which: RegExp, spoil: Spoil): void {
  wrap(pg.Client.prototype, 'query', (query, args) => {
    const [config, ...rest] = args as [Partial<pg.QueryConfig>, ...unknown[]]
    if (!which.test(config.text ?? '')) return query(args)
    const values = config.values ?? []
    return spoil({
      values,
      send: (others = values) => query([{ ...config, values: others }, ...rest]),
      sendText: text => query([{ ...config, text, values: [] }, ...rest]),
      also: text => { query([text, () => {}]) },
      answer (result) {
        const callback = rest.find(one => typeof one === 'function')
        if (callback === undefined) return Promise.resolve(result)
        queueMicrotask(() => callback(null, result))
      }
    })
  })
}

/** The service gets the result that the statement would have had. */
function rolledBack ({ also, send }: Statement, did: () => void): unknown {
  did()
  also('BEGIN')
  const answer = send()
  also('ROLLBACK')
  return answer
}

function swallowed ({ answer }: Statement): unknown {
  return answer({ rows: [], rowCount: 0, fields: [], command: 'SELECT' })
}

function every (count: number, spoil: Spoil, did: Job['did']): Spoil {
  let seen = 0
  return statement => {
    if (++seen % count !== 0) return statement.send()
    did('')
    return spoil(statement)
  }
}

function batchIn ({ values: [asked] }: Statement): { customers: string[], fingerprints: string[] } {
  return JSON.parse(String(asked)) as { customers: string[], fingerprints: string[] }
}
