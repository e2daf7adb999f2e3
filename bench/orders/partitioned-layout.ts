import type pg from 'pg'

/**
 * The orders by month, as docs/growth.md describes them: one partition a month by id, which is a UUIDv7, and one table of
 * keys beside them that no partition bounds. Each statement is what an operator would run.
 */

/** The lowest id that an order of this time can have. */
export function firstIdOf (at: Date): string {
  const time = at.getTime().toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`
}

/** The first day of the month that is `months` after the one of `at`. */
export function monthAfter (at: Date, months: number): Date {
  return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + months))
}

/** @param partitions by hash of the key; 0: a plain table */
export function keyTable (partitions: number): string[] {
  const table = `
    CREATE TABLE order_keys (
      customer text NOT NULL,
      idempotency_key text NOT NULL,
      order_id uuid NOT NULL,
      fingerprint bytea NOT NULL,
      replays integer NOT NULL DEFAULT 0,
      CONSTRAINT order_keys_pkey PRIMARY KEY (customer, idempotency_key)
    )${partitions === 0 ? '' : ' PARTITION BY HASH (customer, idempotency_key)'}`
  return [table, ...Array.from({ length: partitions }, (_, n) => `CREATE TABLE order_keys_${n} PARTITION OF order_keys FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${n})`)]
}

/** From here on each new order has its key in both places. place_orders does not use the copy to decide. */
export const keepKeys = `
  SET LOCAL lock_timeout = '1s';
  CREATE FUNCTION keep_order_keys() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'INSERT' THEN
      INSERT INTO order_keys (customer, idempotency_key, order_id, fingerprint)
      SELECT customer, idempotency_key, id, fingerprint FROM changed ORDER BY customer, idempotency_key ON CONFLICT DO NOTHING;
    ELSE
      DELETE FROM order_keys k USING changed WHERE k.customer = changed.customer AND k.idempotency_key = changed.idempotency_key;
    END IF;
    RETURN NULL;
  END $$;
  CREATE TRIGGER order_keys_kept AFTER INSERT ON orders REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION keep_order_keys();
  CREATE TRIGGER order_keys_given_back AFTER DELETE ON orders REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION keep_order_keys();`

/** $1 is the last id of the batch before, $2 how many. @returns the last id of this one */
export const backfillKeys = `
  WITH batch AS (
    SELECT id, customer, idempotency_key, fingerprint FROM orders WHERE id > $1 ORDER BY id LIMIT $2
  ), kept AS (
    INSERT INTO order_keys (customer, idempotency_key, order_id, fingerprint)
    SELECT customer, idempotency_key, id, fingerprint FROM batch ORDER BY customer, idempotency_key
    ON CONFLICT DO NOTHING
  )
  SELECT id AS last FROM batch ORDER BY id DESC LIMIT 1`

/** A constraint says that all rows lie below the bound, so that ATTACH need not read them. */
export function boundConstraint (table: 'orders' | 'order_items', column: string, bound: string): { add: string, validate: string } {
  const name = `${table}_before_bound`
  return {
    add: `SET LOCAL lock_timeout = '1s'; ALTER TABLE ${table} ADD CONSTRAINT ${name} CHECK (${column} < '${bound}') NOT VALID`,
    validate: `ALTER TABLE ${table} VALIDATE CONSTRAINT ${name}`
  }
}

/** The only step that stops writers, and only while it writes the catalogue: it reads no row. One transaction. */
export async function swap (client: pg.Client, bound: string): Promise<void> {
  const indexes = [...await indexesOf(client, 'orders'), ...await indexesOf(client, 'order_items')]
  const { rows: [placing] } = await client.query<{ definition: string }>("SELECT pg_get_functiondef('place_orders(json, integer)'::regprocedure) AS definition")
  await client.query(`
    BEGIN;
    SET LOCAL lock_timeout = '1s';
    LOCK TABLE orders, order_items IN ACCESS EXCLUSIVE MODE;
    DROP TRIGGER IF EXISTS order_keys_kept ON orders;
    DROP TRIGGER IF EXISTS order_keys_given_back ON orders;
    ALTER TABLE orders RENAME TO orders_before;
    ALTER TABLE order_items RENAME TO order_items_before;
    ALTER INDEX orders_pkey RENAME TO orders_before_pkey;
    ALTER INDEX order_items_pkey RENAME TO order_items_before_pkey;
    ${indexes.map(({ name }) => `ALTER INDEX ${name} RENAME TO ${name}_before;`).join('\n')}

    CREATE TABLE orders (
      LIKE orders_before INCLUDING DEFAULTS,
      CONSTRAINT orders_pkey PRIMARY KEY (id),
      CONSTRAINT orders_total_exact CHECK (total BETWEEN 0 AND 9007199254740991)
    ) PARTITION BY RANGE (id);
    -- They are in order_keys. Here they are NULL from now on, which takes no room; until the bound also in the old table.
    ALTER TABLE orders ALTER idempotency_key DROP NOT NULL, ALTER fingerprint DROP NOT NULL;
    ALTER TABLE orders_before ALTER idempotency_key DROP NOT NULL, ALTER fingerprint DROP NOT NULL;
    CREATE TABLE order_items (
      LIKE order_items_before INCLUDING DEFAULTS,
      CONSTRAINT order_items_pkey PRIMARY KEY (order_id, position),
      CONSTRAINT order_items_quantity_positive CHECK (quantity > 0)
    ) PARTITION BY RANGE (order_id);
    ${indexes.filter(({ unique }) => !unique).map(({ definition }) => `${definition};`).join('\n')}
    ALTER TABLE orders ATTACH PARTITION orders_before FOR VALUES FROM (MINVALUE) TO ('${bound}');
    ALTER TABLE order_items ATTACH PARTITION order_items_before FOR VALUES FROM (MINVALUE) TO ('${bound}');
    ${keyed(placing?.definition ?? '')};
    COMMIT`)
}

/**
 * Adds a coming month. The foreign key joins the two partitions and not the two parents, so that one month can be detached
 * without reading the others. The tables are made beside the parents and then attached; no reader or writer waits for it.
 */
export function addMonth (month: Date): string[] {
  const name = nameOf(month)
  const range = `FROM ('${firstIdOf(month)}') TO ('${firstIdOf(monthAfter(month, 1))}')`
  return [
    `CREATE TABLE orders_${name} (LIKE orders INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)`,
    `CREATE TABLE order_items_${name} (LIKE order_items INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)`,
    `ALTER TABLE order_items_${name} ADD FOREIGN KEY (order_id) REFERENCES orders_${name} (id) ON UPDATE CASCADE ON DELETE CASCADE`,
    `ALTER TABLE orders ATTACH PARTITION orders_${name} FOR VALUES ${range}`,
    `ALTER TABLE order_items ATTACH PARTITION order_items_${name} FOR VALUES ${range}`
  ]
}

/** Detaches a month; no reader or writer waits. It leaves two separate tables for pg_dump and DROP. */
export function detachMonth (month: Date): string[] {
  return ['order_items', 'orders'].map(table => `ALTER TABLE ${table} DETACH PARTITION ${table}_${nameOf(month)} CONCURRENTLY`)
}

function nameOf (month: Date): string {
  return month.toISOString().slice(0, 7).replace('-', '_')
}

/** All but the primary key. */
export async function indexesOf (client: pg.Client, table: string): Promise<Array<{ name: string, unique: boolean, definition: string }>> {
  const { rows } = await client.query<{ name: string, unique: boolean, definition: string }>(`
    SELECT indexrelid::regclass::text AS name, indisunique AS unique, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') AS definition
      FROM pg_index WHERE indrelid = $1::regclass AND NOT indisprimary`, [table])
  return rows
}

/** `place_orders` with the keys in a table of their own. Only the differing parts stand here. */
function keyed (definition: string): string {
  return [
    [
      between(definition, '    INSERT INTO orders (', 'RETURNING id, customer, idempotency_key, fingerprint, total, created_at, replays\n'),
      `    INSERT INTO order_keys AS k (customer, idempotency_key, order_id, fingerprint)
    SELECT asked.customer, asked.key, asked.id, asked.fingerprint
      FROM asked
     ORDER BY asked.customer, asked.key
    ON CONFLICT (customer, idempotency_key) DO UPDATE SET replays = k.replays + 1
    RETURNING k.order_id AS id, k.customer, k.idempotency_key, k.fingerprint, k.replays\n`
    ],
    ['array_agg(claimed.total ORDER BY asked.n)', 'array_agg(least(asked.total, 9007199254740991)::bigint ORDER BY asked.n)'],
    ['array_agg(claimed.created_at ORDER BY asked.n)', 'array_agg(asked.created_at ORDER BY asked.n)'],
    [
      '  -- The rest of the orders, before the stock',
      `  INSERT INTO orders (id, customer, currency, total, reference, created_at)
  SELECT b.id, b.customer, b.currency, totals[b.n], b.reference, b.created_at
    FROM unnest(batch_ids, batch_customers, batch_currencies, batch_references, batch_times) WITH ORDINALITY AS b(id, customer, currency, reference, created_at, n)
   WHERE outcomes[b.n] = 'created';

  -- A statement after the claim: it sees the order of a twin that the claim waited for, which the claim's own snapshot does not.
  -- A key whose order is in no partition has had its order: that month was detached.
  IF 'replayed' = ANY (outcomes) THEN
    SELECT array_agg(CASE WHEN outcomes[b.n] = 'replayed' AND first.id IS NULL THEN 'archived' ELSE outcomes[b.n] END ORDER BY b.n),
           array_agg(coalesce(first.total, totals[b.n]) ORDER BY b.n),
           array_agg(coalesce(first.created_at, times[b.n]) ORDER BY b.n)
      INTO outcomes, totals, times
      FROM generate_subscripts(ids, 1) AS b(n)
      LEFT JOIN LATERAL (SELECT o.id, o.total, o.created_at FROM orders o WHERE outcomes[b.n] = 'replayed' AND o.id = ids[b.n] OFFSET 0) first ON true;
  END IF;

  -- The rest of the orders, before the stock`
    ],
    [
      '    WITH refused AS (\n      DELETE FROM orders o',
      `    DELETE FROM order_keys k
     USING unnest(batch_customers, batch_keys, outcomes) AS claim(customer, key, outcome)
     WHERE k.customer = claim.customer AND k.idempotency_key = claim.key AND claim.outcome IN ('unknown-product', 'out-of-stock', 'total-too-large');
    WITH refused AS (\n      DELETE FROM orders o`
    ]
  ].reduce((text, [found = '', instead = '']) => {
    if (found === '' || text.split(found).length !== 2) throw new Error(`place_orders has changed: it does not hold this once, so nothing was replaced:\n${found}`)
    return text.replace(found, () => instead)
  }, definition)
}

function between (text: string, from: string, to: string): string {
  const start = text.indexOf(from)
  const end = text.indexOf(to, start)
  return start === -1 || end === -1 ? '' : text.slice(start, end + to.length)
}
