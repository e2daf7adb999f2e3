-- As before, but for { expectedTotals } of the batch: what the customers were told that their orders cost, a list like the others with a null where
-- nothing was said, or absent. An order that costs something else is refused: price-changed, with its total in { totals }.
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
  -- NULL where nothing in the batch is sampled, and from the version before.
  batch_traces text[];
  -- NULL where no order of the batch has one, and from the version before.
  batch_expected bigint[];
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
  SELECT * INTO batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references, batch_times, batch_traces, batch_expected,
                line_n, line_position, line_sku, line_quantity
    FROM json_to_record(batch) AS (ids uuid[], customers text[], keys text[], fingerprints text[], currencies text[], "references" text[], "createdAt" timestamptz[], traces text[], "expectedTotals" bigint[],
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
           b.created_at, coalesce(lines.total, 0) AS total, b.expected_total, lines.unknown_sku
      FROM unnest(batch_ids, batch_customers, batch_keys, batch_fingerprints, batch_currencies, batch_references, batch_times, batch_expected)
           WITH ORDINALITY AS b(id, customer, key, fingerprint, currency, reference, created_at, expected_total, n)
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
           WHEN asked.total <> asked.expected_total THEN 'price-changed'
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
  INSERT INTO outbox (order_id, version, type, created_at, tx, attempts, available_at, trace_context)
  SELECT claim.id, 1, 'placed', claim.created_at, tx_position, CASE WHEN lease_ms > 0 THEN 1 ELSE 0 END, CASE WHEN lease_ms > 0 THEN NULL ELSE now() END, claim.trace_context
    FROM unnest(ids, outcomes, times, batch_traces) AS claim(id, outcome, created_at, trace_context)
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
  IF outcomes && ARRAY['unknown-product', 'out-of-stock', 'total-too-large', 'price-changed'] THEN
    WITH refused AS (
      DELETE FROM orders o
       USING unnest(ids, outcomes) AS claim(id, outcome)
       WHERE o.id = claim.id AND claim.outcome IN ('unknown-product', 'out-of-stock', 'total-too-large', 'price-changed')
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
