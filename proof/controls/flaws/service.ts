import { join } from 'node:path'
import { pagesOf } from '../../../verify/at-rest.ts'
import type { Target } from '../../../verify/target.ts'
import { aStop, type Flaw } from './flaw.ts'
import { changeFunction, withSql } from './sql.ts'

/** The more transactions overlap, the more of them commit in another sequence than they began. */
export const oneByOne = { INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '8' }

/** Common flawed designs, in the service itself. */
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
    broken: 'A transaction catches an error, and resolves although it was rolled back',
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
    broken: 'A retry uses ON CONFLICT DO NOTHING and a SELECT, which misses an equal request in flight',
    expected: 'duplicated',
    setting: { ...aStop, mix: { twin: 40 } },
    break: target => withSql(served(target, 'two-intakes'), async client => {
      await changeFunction(client, 'place_orders', [
        ['claimed AS (', 'made AS ('],
        ['DO UPDATE SET replays = orders.replays + 1', 'DO NOTHING'],
        // The code takes it for impossible that a row was neither made nor found, so the answer falls back on the id that it would have had.
        ['RETURNING id, customer, idempotency_key, fingerprint, total, created_at, replays', `RETURNING id
  ), claimed AS (
    SELECT coalesce(existing.id, asked.id) AS id, asked.customer, asked.key AS idempotency_key,
           coalesce(existing.fingerprint, asked.fingerprint) AS fingerprint, coalesce(existing.total, asked.total) AS total,
           coalesce(existing.created_at, asked.created_at) AS created_at, (made.id IS NULL)::integer AS replays
      FROM asked LEFT JOIN made ON made.id = asked.id
      LEFT JOIN orders existing ON existing.customer = asked.customer AND existing.idempotency_key = asked.key`],
        // Such an order would have no lines either, and without lines the service would notice the error.
        ["WHEN 'replayed' THEN item.unit_price", "WHEN 'replayed' THEN line.price"]
      ])
    })
  },
  {
    name: 'outbox-by-cursor',
    broken: 'The relay selects the events after its last one, by transaction id > cursor',
    expected: 'outboxMissing',
    // The skipped events are never delivered, however long the run waits.
    setting: { ...aStop, restLimitMs: 5_000 },
    break: target => withSettings(served(target, 'outbox-by-cursor'), oneByOne)
  }
]

/** The service started as usual, but by another program. */
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

/** Events and charges of a killed process follow only half a minute later. A control of something else need not wait for them. */
export function withoutEvents (target: Target): Target {
  return {
    ...target,
    async * snapshot (run) {
      for await (const { events: _, payments: __, refunds: ___, ...rest } of pagesOf(target, run)) yield rest
    }
  }
}
