import type pg from 'pg'
import type { Target } from '../../../verify/target.ts'
import { UserError } from '../../../user-error.ts'
import { aStop, type Flaw } from './flaw.ts'
import { withoutEvents } from './service.ts'
import { isCustomer, changeFunction, withSql, withTrigger } from './sql.ts'

/** Flaws in the database: its functions, triggers, indexes, settings. */
export const flawsOfTheDatabase: readonly Flaw[] = [
  {
    name: 'async-commit',
    broken: 'Postgres runs with synchronous_commit=off, and is killed',
    expected: 'lost',
    setting: { scenario: 'database-crash', duration: 6_000 },
    break: target => withoutEvents(withSql(configured(target, { synchronous_commit: 'off', wal_writer_delay: '10s' }), async client => {
      // Otherwise the crash would lose the tables, too.
      await client.query('CHECKPOINT')
    }))
  },
  {
    name: 'stock-without-lock',
    broken: 'Stock is read without a lock, reduced, and written back',
    expected: 'oversold',
    setting: aStop,
    break: target => withPlacing(target, [
      ['FOR NO KEY UPDATE OF product', ''],
      ['p.stock - sold.quantity', '(SELECT seen.stock FROM products seen WHERE seen.sku = p.sku) - sold.quantity']
    ])
  },
  {
    name: 'stock-of-first-line',
    broken: 'An order takes the stock of its first line only',
    expected: 'oversold',
    share: 'stock',
    of: 'everybody',
    break: target => withPlacing(target, [[
      `FROM unnest(line_n, line_sku, line_quantity) AS line(n, sku, quantity)
       WHERE outcomes[line.n] = 'created'
       GROUP BY line.sku
    ) sold`,
      `FROM unnest(line_n, line_sku, line_quantity, line_position) AS line(n, sku, quantity, "position")
       WHERE outcomes[line.n] = 'created' AND line."position" = 1
       GROUP BY line.sku
    ) sold`
    ]])
  },
  {
    name: 'cancel-returns-one-line',
    broken: 'A cancellation returns the stock of one line of two',
    expected: 'oversold',
    share: 'keys',
    of: 'everybody',
    break: target => withFunction(target, 'give_stock_back', [['WHERE item.order_id = ANY (of_orders)\n       GROUP BY', 'WHERE item.order_id = ANY (of_orders) AND item.position = 1\n       GROUP BY']])
  },
  {
    name: 'move-without-lock',
    broken: 'A transition reads the order without a lock',
    expected: 'state',
    share: 'all',
    of: 'everybody',
    break: target => withFunction(target, 'move_order', [
      ['FOR NO KEY UPDATE;\n  IF NOT FOUND', ';\n  IF NOT FOUND'],
      // So that two concurrent requests meet there every time.
      ['payment := live_payment(moving.id);', 'payment := live_payment(moving.id); PERFORM pg_sleep(0.02);']
    ])
  },
  {
    name: 'out-of-stock-too-early',
    broken: 'An order is refused as out of stock while there is enough',
    expected: 'falseRefusal',
    share: 'stock',
    of: 'everybody',
    break: target => withPlacing(target, [
      ['array_agg(locked.sku) FILTER (WHERE locked.stock < locked.wanted)', 'array_agg(locked.sku) FILTER (WHERE locked.stock < locked.wanted + 500)'],
      ['array_agg(locked.stock) FILTER (WHERE locked.stock < locked.wanted)', 'array_agg(locked.stock) FILTER (WHERE locked.stock < locked.wanted + 500)'],
      ['AND line.quantity > short.remaining;', 'AND line.quantity > short.remaining - 500;']
    ])
  },
  {
    name: 'keys-of-all-customers',
    broken: 'An idempotency key is unique among all customers',
    expected: 'falseRefusal',
    share: 'keys',
    of: 'everybody',
    break: target => withPlacing(target, [
      ['ON CONFLICT (customer, idempotency_key)', 'ON CONFLICT (idempotency_key)'],
      ['ON asked.customer = claimed.customer AND asked.key = claimed.idempotency_key', 'ON asked.key = claimed.idempotency_key']
    ], async client => {
      await client.query('DROP INDEX orders_customer_idempotency_key_key')
      await client.query('CREATE UNIQUE INDEX ON orders (idempotency_key)')
    })
  },
  {
    name: 'ghost-orders',
    broken: 'A trigger stores an order that nobody asked for',
    expected: 'phantom',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withTrigger(target, 'orders', 'AFTER', `
      IF ${isCustomer('NEW.customer', customer)} AND NEW.idempotency_key LIKE '%7' THEN
        INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, created_at)
        VALUES (gen_random_uuid(), NEW.customer, 'ghost-' || NEW.id || '-', NEW.fingerprint, NEW.currency, 0, NEW.created_at);
      END IF;
      RETURN NEW;`)
  },
  {
    name: 'events-left-out',
    broken: 'A trigger drops the events of payments',
    expected: 'outboxMissing',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withTrigger(target, 'outbox', 'BEFORE', `
      IF NEW.type = 'paid' AND EXISTS (SELECT FROM orders o WHERE o.id = NEW.order_id AND ${isCustomer('o.customer', customer)}) THEN
        RETURN NULL;
      END IF;
      RETURN NEW;`)
  },
  {
    name: 'refused-row-stays',
    broken: 'An order that is refused as out of stock stays stored',
    expected: 'resurrected',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withPlacing(target, [
      ["claim.outcome IN ('unknown-product', 'out-of-stock', 'total-too-large', 'price-changed')", `claim.outcome IN ('unknown-product', 'out-of-stock', 'total-too-large', 'price-changed') AND NOT ${isCustomer('o.customer', customer)}`]
    ])
  },
  {
    name: 'version-plus-2',
    broken: 'A transition raises the version by two',
    expected: 'outboxMissing',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withFunction(target, 'next_version', [['version = o.version + 1', `version = o.version + CASE WHEN ${isCustomer('o.customer', customer)} THEN 2 ELSE 1 END`]])
  },
  {
    name: 'total-of-dearest',
    broken: 'The total is that of the most expensive line',
    expected: 'wrongContent',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withPlacing(target, [
      ['coalesce(lines.total, 0) AS total', `coalesce(CASE WHEN ${isCustomer('b.customer', customer)} THEN lines.dearest ELSE lines.total END, 0) AS total`],
      ['sum(line.quantity::numeric * line.price) AS total,', 'sum(line.quantity::numeric * line.price) AS total, max(line.quantity::numeric * line.price) AS dearest,']
    ])
  },
  {
    name: 'prices-of-today',
    broken: 'A retry is answered with current prices',
    expected: 'replayMismatch',
    share: 'changes',
    of: 'guests',
    break: (target, customer) => withPlacing(target, [
      ["CASE outcomes[line.n] WHEN 'replayed' THEN item.unit_price", `CASE WHEN outcomes[line.n] = 'replayed' AND NOT ${isCustomer('batch_customers[line.n]', customer)} THEN item.unit_price`]
    ])
  },
  {
    name: 'any-step',
    broken: 'An order may make every transition from every state',
    expected: 'state',
    share: 'changes',
    of: 'guests',
    // The gateway's answer makes even a cancelled order paid.
    break: (target, customer) => withFunction(
      withFunction(target, 'may_move', [['WHEN NOT moving.status = ANY (allowed) THEN', `WHEN NOT moving.status = ANY (allowed) AND NOT ${isCustomer('moving.customer', customer)} THEN`]]),
      'settle_payment', [["IF paid_order.status = 'placed' THEN", `IF paid_order.status = 'placed' OR ${isCustomer('paid_order.customer', customer)} THEN`]]
    )
  }
]

type Changes = Parameters<typeof changeFunction>[2]

export function withPlacing (target: Target, changes: Changes, also?: (client: pg.Client) => Promise<void>): Target {
  return withSql(target, async client => {
    await also?.(client)
    await changeFunction(client, 'place_orders', changes)
  })
}

function withFunction (target: Target, name: string, changes: Changes): Target {
  return withSql(target, async client => await changeFunction(client, name, changes))
}

function configured (target: Target, settings: Readonly<Record<string, string>>): Target {
  if (target.postgres === undefined) throw new UserError(`The target ${target.name} has no \`postgres\`; its settings cannot be broken, and nothing was started.`)
  return { ...target, postgres: { ...target.postgres, settings: { ...target.postgres.settings, ...settings } } }
}
