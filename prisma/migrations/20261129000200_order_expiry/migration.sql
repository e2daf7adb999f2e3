SET lock_timeout = '1s';

-- Since when unpaid orders expire, in one row. An order from before keeps what it was placed with: nobody was told that it would end.
CREATE TABLE "order_expiry" (
    "id" BOOLEAN NOT NULL DEFAULT true,
    "since" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "order_expiry_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "order_expiry_one_row" CHECK ("id")
);

INSERT INTO "order_expiry" DEFAULT VALUES;

-- Whoever may place orders may have them expire.
--
-- safe-because: it gives a right to a table of this migration, and takes none away
DO $$
DECLARE
  writer text;
BEGIN
  FOR writer IN
    SELECT DISTINCT CASE right_to.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(right_to.grantee)) END
      FROM (
        SELECT (aclexplode(relacl)).* FROM pg_class WHERE oid = 'orders'::regclass
        UNION ALL
        SELECT (aclexplode(attacl)).* FROM pg_attribute WHERE attrelid = 'orders'::regclass
      ) right_to
     WHERE right_to.privilege_type = 'INSERT'
  LOOP
    EXECUTE 'GRANT SELECT ON order_expiry TO ' || writer;
  END LOOP;
END $$;

-- Sorts before every UUIDv7 of this time and later ones, and after every earlier one.
CREATE FUNCTION first_uuid_at(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex(greatest(0, floor(extract(epoch FROM at) * 1000))::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Gives the stock of orders back. Call it with the orders locked: they come first, then the products, sorted.
CREATE FUNCTION give_stock_back(of_orders uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM products p
    WHERE p.sku IN (SELECT item.sku FROM order_items item WHERE item.order_id = ANY (of_orders))
    ORDER BY p.sku FOR NO KEY UPDATE;
  UPDATE products p SET stock = p.stock + back.quantity
    FROM (SELECT item.sku, sum(item.quantity) AS quantity FROM order_items item WHERE item.order_id = ANY (of_orders) GROUP BY item.sku) back
   WHERE p.sku = back.sku;
END $$;

-- What keeps an unpaid order: a payment that is not over, but not for ever one that waits for its customer. One that was paid, and whose capture failed, has its time from then on.
CREATE FUNCTION is_kept(unpaid orders, cutoff timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM payments payment
                  WHERE payment.order_id = unpaid.id
                    AND (payment.state NOT IN ('declined', 'voided', 'pending') OR payment.state = 'pending' AND payment.requested_at > cutoff OR unpaid.version > 1 AND payment.settled_at > cutoff))
$$;

-- Cancels orders that were not paid for unpaid_ms, and gives their stock back; how_many of them at most, the oldest first.
-- Beside any number of others: it waits for no order. The time of an order is in its id, so (status, id) is the index of what is due.
-- Without JIT, as prune_outbox.
CREATE FUNCTION expire_orders(unpaid_ms bigint, how_many integer) RETURNS TABLE (due integer, expired integer)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
  cutoff timestamptz := now() - unpaid_ms * interval '1 ms';
  ids uuid[];
  expiring orders%ROWTYPE;
BEGIN
  -- = ANY and a sort by both: no other index has that order (orders/store.ts, list). Without sorts the planner takes it, however few it expects.
  SELECT array_agg(candidate.id) INTO ids
    FROM (
      SELECT o.id FROM orders o
       WHERE o.status = ANY (ARRAY['placed']::order_status[])
         AND o.id >= first_uuid_at((SELECT expiry.since FROM order_expiry expiry)) AND o.id < first_uuid_at(cutoff)
         AND NOT is_kept(o, cutoff)
       ORDER BY o.status, o.id
       LIMIT how_many
         FOR NO KEY UPDATE SKIP LOCKED
    ) candidate;
  due := coalesce(cardinality(ids), 0);

  -- Looked at again under the lock, by a new snapshot: a payment may have been begun since the last one, without a write to its order.
  SELECT array_agg(o.id ORDER BY o.id) INTO ids FROM orders o WHERE o.id = ANY (ids) AND NOT is_kept(o, cutoff);
  expired := coalesce(cardinality(ids), 0);
  IF expired > 0 THEN
    FOR expiring IN SELECT o.* FROM orders o WHERE o.id = ANY (ids) ORDER BY o.id LOOP
      PERFORM give_back(live_payment(expiring.id));
      PERFORM next_version(expiring, 'cancelled', NULL, '{"reason": "expired"}', NULL);
    END LOOP;
    PERFORM give_stock_back(ids);
  END IF;
  RETURN NEXT;
END $$;
