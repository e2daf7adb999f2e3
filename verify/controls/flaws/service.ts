import { join } from 'node:path'
import { pagesOf } from '../../at-rest.ts'
import type { Target } from '../../target.ts'
import { aStop, type Flaw } from './flaw.ts'
import { changeFunction, withSql } from './sql.ts'

/** The more transactions overlap, the more of them commit in another order than they began. */
export const oneByOne = { INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '8' }

/** Designs that are often met, in the service itself. */
export const flawsOfTheService: readonly Flaw[] = [
  {
    name: 'acknowledge-before-commit',
    broken: 'Orders are answered before their commit',
    expected: 'lost',
    setting: { scenario: 'kill', duration: 6_000 },
    break: target => withoutEvents(served(target, 'acknowledge-before-commit'))
  },
  {
    name: 'caught-error',
    broken: 'A transaction catches an error, and resolves though it was rolled back',
    expected: 'lost',
    setting: aStop,
    break: target => withSql(served(target, 'caught-error'), async client => {
      await client.query('CREATE TABLE known_customers (customer text PRIMARY KEY)')
    })
  },
  {
    name: 'memory-idempotency',
    broken: 'Idempotency keys are kept in memory',
    expected: 'duplicated',
    setting: aStop,
    break: target => withSql(served(target, 'memory-idempotency'), async client => {
      await client.query('DROP INDEX orders_customer_idempotency_key_key')
      await changeFunction(client, 'place_orders', [['ON CONFLICT (customer, idempotency_key) DO UPDATE SET replays = orders.replays + 1', '']])
    })
  },
  {
    name: 'do-nothing-race',
    broken: 'ON CONFLICT DO NOTHING and a SELECT, which misses a twin in flight',
    expected: 'duplicated',
    setting: { ...aStop, mix: { twin: 40 } },
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
    name: 'outbox-by-cursor',
    broken: 'The relay takes the events after the last it had, by transaction id > cursor',
    expected: 'outboxMissing',
    // What is left behind is never delivered, however long one waits.
    setting: { ...aStop, restLimitMs: 5_000 },
    break: target => withSettings(served(target, 'outbox-by-cursor'), oneByOne)
  }
]

/** As it is started, but by another program. */
function served (target: Target, program: string): Target {
  return {
    ...target,
    start: (run, instance) => ({ ...target.start(run, instance), command: [process.execPath, join(import.meta.dirname, 'services', `${program}.ts`)] })
  }
}

export function withSettings (target: Target, settings: Readonly<Record<string, string>>): Target {
  return {
    ...target,
    start (run, instance) {
      const { env, ...command } = target.start(run, instance)
      return { ...command, env: { ...env, ...settings } }
    }
  }
}

/** What a killed process was about to deliver is delivered half a minute later, and what it was about to have charged as late; a control of something else need not wait for it. */
export function withoutEvents (target: Target): Target {
  return {
    ...target,
    async * snapshot (run) {
      for await (const { events: _, payments: __, refunds: ___, ...rest } of pagesOf(target, run)) yield rest
    }
  }
}
