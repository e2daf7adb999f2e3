import { join } from 'node:path'
import { run, type RunOptions } from '../run.ts'
import type { Target } from '../target.ts'
import type { Control } from './control.ts'
import { changeFunction, withSql } from './database.ts'

type Flaw = Omit<Control, 'verdict'> & Pick<RunOptions, 'scenario' | 'duration' | 'mix' | 'restLimitMs'> & {
  break: (target: Target) => Target
}

/** Arrivals per second, and connections. */
const load = { rate: 200, clients: 64 }

/** The more transactions overlap, the more of them commit in another order than they began. */
const oneByOne = { INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '8' }

const flaws: readonly Flaw[] = [
  {
    name: 'acknowledge-before-commit',
    broken: 'Orders are answered before their commit',
    expected: 'lost',
    scenario: 'kill',
    duration: 6_000,
    break: target => withoutEvents(served(target, 'acknowledge-before-commit'))
  },
  {
    name: 'caught-error',
    broken: 'A transaction catches an error, and resolves though it was rolled back',
    expected: 'lost',
    scenario: 'term',
    duration: 4_000,
    break: target => withSql(served(target, 'caught-error'), async client => {
      await client.query('CREATE TABLE known_customers (customer text PRIMARY KEY)')
    })
  },
  {
    name: 'memory-idempotency',
    broken: 'Idempotency keys are kept in memory',
    expected: 'duplicated',
    scenario: 'term',
    duration: 4_000,
    break: target => withSql(served(target, 'memory-idempotency'), async client => {
      await client.query('DROP INDEX orders_customer_idempotency_key_key')
      await changeFunction(client, 'place_orders', [['ON CONFLICT (customer, idempotency_key) DO UPDATE SET replays = orders.replays + 1', '']])
    })
  },
  {
    name: 'do-nothing-race',
    broken: 'ON CONFLICT DO NOTHING and a SELECT, which misses a twin in flight',
    expected: 'duplicated',
    scenario: 'term',
    duration: 4_000,
    mix: { twin: 40 },
    break: target => withSql(served(target, 'two-intakes'), async client => {
      await changeFunction(client, 'place_orders', [
        ['claimed AS (', 'made AS ('],
        ['DO UPDATE SET replays = orders.replays + 1', 'DO NOTHING'],
        // A row that was neither made nor found "cannot be", so the answer falls back on the id that it would have had.
        ['RETURNING id, customer, idempotency_key, fingerprint, total, created_at, replays', `RETURNING id
  ), claimed AS (
    SELECT coalesce(existing.id, asked.id) AS id, asked.customer, asked.key AS idempotency_key,
           coalesce(existing.fingerprint, asked.fingerprint) AS fingerprint, coalesce(existing.total, asked.total) AS total,
           coalesce(existing.created_at, asked.created_at) AS created_at, (made.id IS NULL)::integer AS replays
      FROM asked LEFT JOIN made ON made.id = asked.id
      LEFT JOIN orders existing ON existing.customer = asked.customer AND existing.idempotency_key = asked.key`],
        // Nor would such an order have lines, without which the service knows that something is wrong.
        ["WHEN 'replayed' THEN item.unit_price", "WHEN 'replayed' THEN line.price"]
      ])
    })
  },
  {
    name: 'stock-without-lock',
    broken: 'Stock is read without a lock, reckoned with, and written back',
    expected: 'oversold',
    scenario: 'term',
    duration: 4_000,
    break: target => withSql(target, async client => {
      await changeFunction(client, 'place_orders', [
        ['FOR NO KEY UPDATE OF product', ''],
        ['p.stock - sold.quantity', '(SELECT seen.stock FROM products seen WHERE seen.sku = p.sku) - sold.quantity']
      ])
    })
  },
  {
    name: 'outbox-by-cursor',
    broken: 'The relay takes the events after the last it had, by transaction id > cursor',
    expected: 'outboxMissing',
    scenario: 'term',
    duration: 4_000,
    // What is left behind is never delivered, however long one waits.
    restLimitMs: 5_000,
    break: target => served(target, 'outbox-by-cursor', oneByOne)
  },
  {
    name: 'async-commit',
    broken: 'Postgres runs with synchronous_commit=off, and is killed',
    expected: 'lost',
    scenario: 'database-crash',
    duration: 6_000,
    break: target => withoutEvents(withSql(configured(target, { synchronous_commit: 'off', wal_writer_delay: '10s' }), async client => {
      // Else the crash takes the tables, too.
      await client.query('CHECKPOINT')
    }))
  }
]

/** The service of this repository, run with something broken in it. The load knows nothing of that. */
export const live: readonly Control[] = flaws.map(({ name, broken, expected, break: vary, ...settings }) => ({
  name,
  broken,
  expected,
  verdict: async options => await run({
    ...options,
    ...load,
    ...settings,
    targetFile: join(import.meta.dirname, '../targets/order-service.ts'),
    vary
  })
}))

/** As it is started, but by another program. */
function served (target: Target, program: string, settings: Readonly<Record<string, string>> = {}): Target {
  return {
    ...target,
    start (run, instance) {
      const { env, ...command } = target.start(run, instance)
      return { ...command, command: [process.execPath, join(import.meta.dirname, 'services', `${program}.ts`)], env: { ...env, ...settings } }
    }
  }
}

function configured (target: Target, settings: Readonly<Record<string, string>>): Target {
  if (target.postgres === undefined) throw new Error(`The target ${target.name} has no \`postgres\`; its settings cannot be broken, and nothing was started.`)
  return { ...target, postgres: { ...target.postgres, settings: { ...target.postgres.settings, ...settings } } }
}

/** What a killed process was about to deliver is delivered half a minute later; a control of something else need not wait for it. */
function withoutEvents (target: Target): Target {
  return {
    ...target,
    async snapshot (run) {
      const { events: _, ...rest } = await target.snapshot(run)
      return rest
    }
  }
}
