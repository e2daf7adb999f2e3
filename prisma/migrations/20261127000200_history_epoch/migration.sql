SET lock_timeout = '1s';

-- One life of one Postgres server with these tables. Transaction ids begin anew after a dump is restored, and repeat after a
-- point-in-time recovery, a lossy failover or an older copy of the data. What an event's position, a lease or a stream's cursor
-- is compared by must not: it is epoch * 2^48 + xid8, and each life is an epoch.
--
-- server_started_at, file: which server it is, and which table in it. Together they change with every restore, failover, upgrade
-- and restart, and any role may ask for them.
-- began: µs since 1970, and 0 in epoch 0. It tells two epochs of the same number apart: a dump may be restored twice.
-- horizon: no stream has given an event of this epoch from here on; and where this is stored, so is all that lies before it.
CREATE TABLE "epochs" (
    "epoch" INTEGER NOT NULL,
    "server_started_at" TIMESTAMPTZ(6),
    "file" TEXT,
    "began" BIGINT NOT NULL,
    "horizon" BIGINT NOT NULL,

    CONSTRAINT "epochs_pkey" PRIMARY KEY ("epoch")
);

-- The version before calls the functions below: who may write its events may do what they do.
-- safe-because: it gives rights to a table of this migration, and takes none away
DO $$
DECLARE
  writer text;
BEGIN
  FOR writer IN
    SELECT DISTINCT CASE right_to.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(right_to.grantee)) END
      FROM (
        SELECT (aclexplode(relacl)).* FROM pg_class WHERE oid = 'outbox'::regclass
        UNION ALL
        SELECT (aclexplode(attacl)).* FROM pg_attribute WHERE attrelid = 'outbox'::regclass
      ) right_to
     WHERE right_to.privilege_type = 'INSERT'
  LOOP
    EXECUTE 'GRANT SELECT, INSERT, UPDATE ON epochs TO ' || writer;
  END LOOP;
END $$;

-- Epoch 0 is this server's, and what it has stored keeps its values. Where the tables hold transactions that this server has not
-- come to, they were restored from another: its own epoch is the next.
INSERT INTO "epochs" ("epoch", "server_started_at", "file", "began", "horizon")
SELECT 0,
       CASE WHEN coalesce((SELECT max(tx) FROM outbox), 0) < pg_snapshot_xmax(snapshot)::text::bigint THEN pg_postmaster_start_time() END,
       pg_relation_filepath('epochs'), 0, pg_snapshot_xmin(snapshot)::text::bigint
  FROM pg_current_snapshot() AS snapshot;

-- The epoch of this server's life, which the first call in it begins.
--
-- No writer of the life before is left, and each of this one has asked here: so none writes into an epoch that is over.
-- 32,767 is the last that fits beside 48 bits of transaction id.
CREATE FUNCTION current_epoch() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  latest record;
  following integer;
BEGIN
  LOOP
    SELECT e.epoch, e.server_started_at = pg_postmaster_start_time() AND e.file = pg_relation_filepath(e.tableoid) AS is_here
      INTO latest
      FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
    IF latest.is_here OR latest.epoch = 32767 THEN
      RETURN latest.epoch;
    END IF;
    -- Also where the events were restored and this table was not.
    following := coalesce(greatest(latest.epoch, (SELECT max(event.tx) >> 48 FROM outbox event)), -1) + 1;
    INSERT INTO epochs (epoch, server_started_at, file, began, horizon)
    VALUES (following, pg_postmaster_start_time(), pg_relation_filepath('epochs'), extract(epoch FROM clock_timestamp()) * 1000000, following::bigint << 48)
    -- Waits for a twin that begins it too; the next turn sees the twin's row.
    ON CONFLICT (epoch) DO NOTHING;
  END LOOP;
END $$;

-- The position of what this transaction writes.
CREATE FUNCTION event_position() RETURNS bigint LANGUAGE sql
RETURN (current_epoch()::bigint << 48) | (pg_current_xact_id()::text)::bigint;

-- The epoch, and how far its events may be read: oldest is pg_snapshot_xmin of the statement that reads them.
--
-- How far is written down before anybody is given an event: what a client has seen is never ahead of it, and after a restore it
-- tells whether all of that is still there. Nothing is written where there is no new event, or on a server that takes no writes.
CREATE FUNCTION feed_horizon(oldest bigint) RETURNS epochs LANGUAGE plpgsql AS $$
DECLARE
  latest epochs%ROWTYPE;
  reach bigint;
BEGIN
  IF current_setting('transaction_read_only') = 'off' THEN
    PERFORM current_epoch();
  END IF;
  SELECT e.* INTO latest FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
  reach := (latest.epoch::bigint << 48) | oldest;
  IF latest.horizon < reach AND current_setting('transaction_read_only') = 'off'
     AND EXISTS (SELECT FROM outbox event WHERE event.tx >= latest.horizon AND event.tx < reach) THEN
    UPDATE epochs e SET horizon = reach WHERE e.epoch = latest.epoch AND e.horizon < reach;
    IF FOUND THEN
      latest.horizon := reach;
    END IF;
  END IF;
  -- Another instance may have come further than the snapshot of the statement that reads.
  latest.horizon := least(latest.horizon, reach);
  RETURN latest;
END $$;

ALTER TABLE "outbox" ALTER COLUMN "tx" SET DEFAULT event_position();

ALTER TABLE "outbox_leases" ALTER COLUMN "tx" SET DEFAULT event_position();

-- As before, but for the position of its events, which it takes once for all of them, and returns as { tx }.
CREATE OR REPLACE FUNCTION place_orders(batch json, lease_ms integer)
RETURNS json LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  -- The batch, list by list: JSON is read faster so than order by order. unnest() makes rows of it again.
  batch_ids uuid[];
  batch_customers text[];
  batch_keys text[];
  batch_fingerprints text[];
  batch_currencies text[];
  batch_references text[];
  batch_times timestamptz[];
  line_n integer[];
  line_position integer[];
  line_sku text[];
  line_quantity integer[];
  line_price bigint[];
  -- What becomes of each order, by its place.
  outcomes text[];
  ids uuid[];
  totals bigint[];
  times timestamptz[];
  -- Of the events. The column's default would look the epoch up for each of them.
  tx_position bigint;
  skus text[];
  -- The products of which the batch wants more than there is: what is left of each, and the lines that want it.
  short_skus text[];
  short_left bigint[];
  short_n integer[];
  short_line_sku text[];
  short_line_quantity integer[];
  current_n integer;
  missing_sku text;
BEGIN
  SELECT * INTO batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references, batch_times,
                line_n, line_position, line_sku, line_quantity
    FROM json_to_record(batch) AS (ids uuid[], customers text[], keys text[], fingerprints text[], currencies text[], "references" text[], "createdAt" timestamptz[],
                                   "lineOrders" integer[], "linePositions" integer[], "lineSkus" text[], "lineQuantities" integer[]);

  -- The catalogue's prices, as they are when the call begins. A product that is not sold in the order's currency has none.
  SELECT array_agg(p.unit_price ORDER BY line.place)
    INTO line_price
    FROM unnest(line_n, line_sku) WITH ORDINALITY AS line(n, sku, place)
    -- OFFSET keeps this a look-up for each line: the planner cannot know how few they are, and would read the whole catalogue.
    LEFT JOIN LATERAL (
      SELECT product.unit_price FROM products product WHERE product.sku = line.sku AND product.currency = batch_currencies[line.n] OFFSET 0
    ) p ON true;

  -- Claim the keys. DO UPDATE, not DO NOTHING: it waits for a twin in flight, returns the twin's row, and by writing makes
  -- this call's own commit wait for the durability of what it acknowledges. Only a row made here has no replays.
  WITH asked AS (
    SELECT b.n, b.id, b.customer, b.key, decode(b.fingerprint, 'hex') AS fingerprint, b.currency, b.reference,
           b.created_at, coalesce(lines.total, 0) AS total, lines.unknown_sku
      FROM unnest(batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references, batch_times)
           WITH ORDINALITY AS b(id, customer, key, fingerprint, currency, reference, created_at, n)
      LEFT JOIN (
        SELECT line.n, sum(line.quantity::numeric * line.price) AS total,
               min(line.sku) FILTER (WHERE line.price IS NULL) AS unknown_sku
          FROM unnest(line_n, line_sku, line_quantity, line_price) AS line(n, sku, quantity, price)
         GROUP BY line.n
      ) lines ON lines.n = b.n
  ), claimed AS (
    INSERT INTO orders (id, customer, idempotency_key, fingerprint, currency, total, reference, created_at)
    SELECT asked.id, asked.customer, asked.key, asked.fingerprint, asked.currency, least(asked.total, 9007199254740991), asked.reference, asked.created_at
      FROM asked
     ORDER BY asked.customer, asked.key
    ON CONFLICT (customer, idempotency_key) DO UPDATE SET replays = orders.replays + 1
    RETURNING id, customer, idempotency_key, fingerprint, total, created_at, replays
  )
  SELECT array_agg(CASE
           WHEN claimed.replays > 0 AND claimed.fingerprint = asked.fingerprint THEN 'replayed'
           WHEN claimed.replays > 0 THEN 'key-reused'
           WHEN asked.unknown_sku IS NOT NULL THEN 'unknown-product'
           WHEN asked.total > 9007199254740991 THEN 'total-too-large'
           ELSE 'created'
         END ORDER BY asked.n),
         array_agg(claimed.id ORDER BY asked.n),
         array_agg(claimed.total ORDER BY asked.n),
         array_agg(claimed.created_at ORDER BY asked.n),
         array_agg(asked.unknown_sku ORDER BY asked.n)
    INTO outcomes, ids, totals, times, skus
    FROM claimed JOIN asked ON asked.customer = claimed.customer AND asked.key = claimed.idempotency_key;

  -- The rest of the orders, before the stock: who waits for a product waits for as little as possible.
  INSERT INTO order_items (order_id, position, sku, quantity, unit_price)
  SELECT ids[line.n], line.position, line.sku, line.quantity, line.price
    FROM unnest(line_n, line_position, line_sku, line_quantity, line_price) AS line(n, position, sku, quantity, price)
   WHERE outcomes[line.n] = 'created';

  -- After the keys: the first call on a server begins an epoch, and whoever waits for that may hold the row of an order.
  tx_position := event_position();
  INSERT INTO outbox (order_id, version, type, created_at, tx, attempts, available_at)
  SELECT claim.id, 1, 'placed', claim.created_at, tx_position, CASE WHEN lease_ms > 0 THEN 1 ELSE 0 END, CASE WHEN lease_ms > 0 THEN NULL ELSE now() END
    FROM unnest(ids, outcomes, times) AS claim(id, outcome, created_at)
   WHERE claim.outcome = 'created';

  -- Lock the stock and look: what it holds under the lock is what counts. FILTER, as a WHERE would come before the lock.
  SELECT array_agg(locked.sku) FILTER (WHERE locked.stock < locked.wanted),
         array_agg(locked.stock) FILTER (WHERE locked.stock < locked.wanted)
    INTO short_skus, short_left
    FROM (
      SELECT product.sku, product.stock, line.wanted
        FROM products product
        JOIN (
          SELECT line.sku, sum(line.quantity) AS wanted
            FROM unnest(line_n, line_sku, line_quantity) AS line(n, sku, quantity)
           WHERE outcomes[line.n] = 'created'
           GROUP BY line.sku
        ) line ON line.sku = product.sku
       ORDER BY product.sku FOR NO KEY UPDATE OF product
    ) locked;

  -- Where every product suffices, the batch is one set. Of one that runs short, those who want it get it in their order.
  IF short_skus IS NOT NULL THEN
    SELECT array_agg(line.n), array_agg(line.sku), array_agg(line.quantity)
      INTO short_n, short_line_sku, short_line_quantity
      FROM unnest(line_n, line_sku, line_quantity) AS line(n, sku, quantity)
     WHERE outcomes[line.n] = 'created' AND line.sku = ANY (short_skus);
    FOR current_n IN SELECT DISTINCT line.n FROM unnest(short_n) AS line(n) ORDER BY line.n LOOP
      SELECT min(line.sku)
        INTO missing_sku
        FROM unnest(short_n, short_line_sku, short_line_quantity) AS line(n, sku, quantity)
        JOIN unnest(short_skus, short_left) AS short(sku, remaining) ON short.sku = line.sku
       WHERE line.n = current_n AND line.quantity > short.remaining;
      IF missing_sku IS NOT NULL THEN
        outcomes[current_n] := 'out-of-stock';
        skus[current_n] := missing_sku;
      ELSE
        SELECT array_agg(short.remaining - coalesce(line.quantity, 0) ORDER BY short.place)
          INTO short_left
          FROM unnest(short_skus, short_left) WITH ORDINALITY AS short(sku, remaining, place)
          LEFT JOIN unnest(short_n, short_line_sku, short_line_quantity) AS line(n, sku, quantity) ON line.n = current_n AND line.sku = short.sku;
      END IF;
    END LOOP;
  END IF;

  UPDATE products p SET stock = p.stock - sold.quantity
    FROM (
      SELECT line.sku, sum(line.quantity) AS quantity
        FROM unnest(line_n, line_sku, line_quantity) AS line(n, sku, quantity)
       WHERE outcomes[line.n] = 'created'
       GROUP BY line.sku
    ) sold
   WHERE p.sku = sold.sku;

  -- A refusal leaves no row: the row exists exactly where success was promised.
  IF outcomes && ARRAY['unknown-product', 'out-of-stock', 'total-too-large'] THEN
    WITH refused AS (
      DELETE FROM orders o
       USING unnest(ids, outcomes) AS claim(id, outcome)
       WHERE o.id = claim.id AND claim.outcome IN ('unknown-product', 'out-of-stock', 'total-too-large')
      RETURNING o.id
    )
    DELETE FROM outbox event USING refused WHERE event.order_id = refused.id;
  END IF;

  -- One row says of all these events whose they are, and is gone once they are published: nothing is written to each of them.
  IF lease_ms > 0 AND 'created' = ANY (outcomes) THEN
    INSERT INTO outbox_leases (tx, expires_at) VALUES (tx_position, now() + lease_ms * interval '1 ms');
  END IF;

  -- Who asks again is told what the lines cost then.
  IF 'replayed' = ANY (outcomes) THEN
    SELECT array_agg(CASE outcomes[line.n] WHEN 'replayed' THEN item.unit_price ELSE line.price END ORDER BY line.place)
      INTO line_price
      FROM unnest(line_n, line_position, line_price) WITH ORDINALITY AS line(n, position, price, place)
      LEFT JOIN LATERAL (
        SELECT placed.unit_price FROM order_items placed WHERE placed.order_id = ids[line.n] AND placed.position = line.position OFFSET 0
      ) item ON true;
  END IF;

  RETURN json_build_object('outcomes', outcomes, 'totals', totals, 'skus', skus, 'unitPrices', line_price, 'tx', tx_position::text,
                           'ids', CASE WHEN 'replayed' = ANY (outcomes) THEN ids END, 'createdAt', CASE WHEN 'replayed' = ANY (outcomes) THEN times END);
END $$;
