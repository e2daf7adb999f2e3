CREATE TYPE "order_status" AS ENUM ('placed', 'paid', 'shipped', 'delivered', 'cancelled');

CREATE TABLE "products" (
    "sku" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "unit_price" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "stock" BIGINT NOT NULL,

    CONSTRAINT "products_pkey" PRIMARY KEY ("sku"),
    CONSTRAINT "products_unit_price_not_negative" CHECK ("unit_price" >= 0),
    CONSTRAINT "products_stock_not_negative" CHECK ("stock" >= 0)
);

-- A total is a JSON integer on the wire, so it stays within what a double holds exactly.
CREATE TABLE "orders" (
    "id" UUID NOT NULL,
    "customer" TEXT NOT NULL,
    "idempotency_key" TEXT NOT NULL,
    "fingerprint" BYTEA NOT NULL,
    "status" "order_status" NOT NULL DEFAULT 'placed',
    "currency" TEXT NOT NULL,
    "total" BIGINT NOT NULL,
    "reference" TEXT,
    "version" INTEGER NOT NULL DEFAULT 1,
    "replays" INTEGER NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "orders_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "orders_total_exact" CHECK ("total" BETWEEN 0 AND 9007199254740991)
);

CREATE TABLE "order_items" (
    "order_id" UUID NOT NULL,
    "position" SMALLINT NOT NULL,
    "sku" TEXT NOT NULL,
    "quantity" INTEGER NOT NULL,
    "unit_price" BIGINT NOT NULL,

    CONSTRAINT "order_items_pkey" PRIMARY KEY ("order_id","position"),
    CONSTRAINT "order_items_quantity_positive" CHECK ("quantity" > 0)
);

CREATE TABLE "outbox" (
    "order_id" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "type" "order_status" NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "tx" BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "available_at" TIMESTAMPTZ(3) DEFAULT CURRENT_TIMESTAMP,
    "dead_at" TIMESTAMPTZ(3),
    "last_error" TEXT,

    CONSTRAINT "outbox_pkey" PRIMARY KEY ("order_id","version")
);

CREATE TABLE "outbox_leases" (
    "tx" BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "outbox_leases_pkey" PRIMARY KEY ("tx")
);

CREATE TABLE "stops" (
    "id" UUID NOT NULL,
    "instance" TEXT NOT NULL,
    "pid" INTEGER NOT NULL,
    "started_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "stopping_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),
    "reason" TEXT,
    "exit_code" INTEGER,
    "report" JSONB,

    CONSTRAINT "stops_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "orders_customer_idempotency_key_key" ON "orders"("customer", "idempotency_key");

CREATE INDEX "orders_customer_id_idx" ON "orders"("customer", "id");

CREATE INDEX "orders_status_id_idx" ON "orders"("status", "id");

CREATE INDEX "outbox_tx_idx" ON "outbox"("tx");

-- What the relay looks for, and nothing else: it stays as small as the backlog.
CREATE INDEX "outbox_available_idx" ON "outbox"("available_at") WHERE "available_at" IS NOT NULL AND "dead_at" IS NULL;

-- The dead, who should be few and are counted at every scrape.
CREATE INDEX "outbox_dead_idx" ON "outbox"("dead_at") WHERE "dead_at" IS NOT NULL;

CREATE INDEX "stops_started_at_idx" ON "stops"("started_at" DESC);

ALTER TABLE "order_items" ADD CONSTRAINT "order_items_order_id_fkey" FOREIGN KEY ("order_id") REFERENCES "orders"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Places a batch of orders in the one transaction of the statement that calls it.
--
-- batch: { ids, customers, keys, fingerprints (hex), currencies, references, createdAt } of the orders, each a list, and
-- { lineOrders, linePositions, lineSkus, lineQuantities } of their lines, where lineOrders is the place of a line's order.
-- No (customer, key) twice. For lease_ms the events of the new orders are the caller's to publish, under the lease of tx.
-- Returns { outcomes, totals, skus } of the orders, { unitPrices } of the lines, and { tx }. An outcome is one of
--   created · replayed · key-reused · unknown-product · out-of-stock · total-too-large
-- total and unitPrices are those of what was created or replayed, sku is what unknown-product and out-of-stock are about.
-- Where something was replayed, { ids, createdAt } too. A refused order leaves no row. Places and positions count from 1.
--
-- Without scans of whole tables: all is looked up by key, and a plan that was made for an empty table is kept.
-- Locks keys first, then stock, both sorted: two batches, or a batch and a cancellation, never wait for each other in a ring.
CREATE FUNCTION place_orders(batch json, lease_ms integer)
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

  INSERT INTO outbox (order_id, version, type, created_at, attempts, available_at)
  SELECT claim.id, 1, 'placed', claim.created_at, CASE WHEN lease_ms > 0 THEN 1 ELSE 0 END, CASE WHEN lease_ms > 0 THEN NULL ELSE now() END
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
    INSERT INTO outbox_leases (expires_at) VALUES (now() + lease_ms * interval '1 ms');
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

  RETURN json_build_object('outcomes', outcomes, 'totals', totals, 'skus', skus, 'unitPrices', line_price, 'tx', pg_current_xact_id()::text,
                           'ids', CASE WHEN 'replayed' = ANY (outcomes) THEN ids END, 'createdAt', CASE WHEN 'replayed' = ANY (outcomes) THEN times END);
END $$;

-- Marks events that were claimed as published, one of ids with the one of versions at its place.
--
-- By key: for some hundred events the planner would rather read the whole outbox, as it takes a look-up for four times a
-- page read in turn, which it is not in memory.
CREATE FUNCTION mark_published(ids uuid[], versions integer[]) RETURNS void
LANGUAGE sql SET enable_seqscan = off
BEGIN ATOMIC
  UPDATE outbox SET available_at = NULL, last_error = NULL
    FROM unnest(ids, versions) AS done(order_id, version)
   WHERE outbox.order_id = done.order_id AND outbox.version = done.version;
END;

-- Moves an order from one of the allowed states to the target, writes the event, and gives the stock back where it is cancelled.
--
-- by_customer and expected_versions are NULL for any. Outcomes: moved · already · not-found · not-allowed · version-mismatch;
-- all but not-found come with the order. In the target state already, the version before the move is accepted too: it is the
-- same request asked again (RFC 9110 section 13.1.1 lets a server answer so).
-- FOR NO KEY UPDATE writes, so that "already" too is durable once this call has committed.
CREATE FUNCTION transition_order(order_id uuid, by_customer text, allowed order_status[], target order_status, expected_versions integer[])
RETURNS TABLE (outcome text, id uuid, customer text, status order_status, currency text, total bigint, reference text, version integer, created_at timestamptz, items jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  found_order orders%ROWTYPE;
  result text;
BEGIN
  SELECT o.* INTO found_order
    FROM orders o
   WHERE o.id = transition_order.order_id AND (by_customer IS NULL OR o.customer = by_customer)
     FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'not-found', NULL::uuid, NULL::text, NULL::order_status, NULL::text, NULL::bigint, NULL::text, NULL::integer, NULL::timestamptz, NULL::jsonb;
    RETURN;
  END IF;

  IF expected_versions IS NOT NULL
     AND NOT found_order.version = ANY (expected_versions)
     AND NOT (found_order.status = target AND found_order.version - 1 = ANY (expected_versions)) THEN
    result := 'version-mismatch';
  ELSIF found_order.status = target THEN
    result := 'already';
  ELSIF NOT found_order.status = ANY (allowed) THEN
    result := 'not-allowed';
  ELSE
    result := 'moved';
    UPDATE orders o SET status = target, version = o.version + 1 WHERE o.id = found_order.id RETURNING o.* INTO found_order;
    INSERT INTO outbox (order_id, version, type) VALUES (found_order.id, found_order.version, target);
    IF target = 'cancelled' THEN
      PERFORM FROM products p
        WHERE p.sku IN (SELECT item.sku FROM order_items item WHERE item.order_id = found_order.id)
        ORDER BY p.sku FOR NO KEY UPDATE;
      UPDATE products p SET stock = p.stock + item.quantity
        FROM order_items item
       WHERE item.order_id = found_order.id AND p.sku = item.sku;
    END IF;
  END IF;

  RETURN QUERY
  SELECT result, found_order.id, found_order.customer, found_order.status, found_order.currency, found_order.total,
         found_order.reference, found_order.version, found_order.created_at::timestamptz,
         (SELECT jsonb_agg(jsonb_build_object('sku', item.sku, 'quantity', item.quantity, 'unitPrice', item.unit_price) ORDER BY item.position)
            FROM order_items item WHERE item.order_id = found_order.id);
END $$;
