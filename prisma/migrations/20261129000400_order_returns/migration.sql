SET lock_timeout = '1s';

-- What of an order came back, or is not shipped at all. It is the idempotency record too: (returned_by, idempotency_key) is unique and never purged.
--
-- items: [{ sku, quantity, unitPrice }], in the order's order. value: of these, in minor units. refunds: whether that was to be given back;
-- refund_id: where something was.
CREATE TABLE "order_returns" (
    "id" UUID NOT NULL,
    "order_id" UUID NOT NULL,
    "returned_by" TEXT NOT NULL,
    "idempotency_key" TEXT NOT NULL,
    "items" JSONB NOT NULL,
    "value" BIGINT NOT NULL,
    "restock" BOOLEAN NOT NULL,
    "refunds" BOOLEAN NOT NULL,
    "refund_id" UUID,
    "reason" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "order_returns_pkey" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX "order_returns_returned_by_idempotency_key_key" ON "order_returns"("returned_by", "idempotency_key");

CREATE INDEX "order_returns_order_id_id_idx" ON "order_returns"("order_id", "id");

-- Whoever may place orders may take them back.
--
-- safe-because: it gives rights to a table of this migration, and takes none away
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
    EXECUTE 'GRANT SELECT, INSERT ON order_returns TO ' || writer;
  END LOOP;
END $$;

-- How much of each line has come back.
CREATE FUNCTION came_back(of_orders uuid[]) RETURNS TABLE (order_id uuid, sku text, quantity bigint) LANGUAGE sql STABLE AS $$
  SELECT returned.order_id, line.sku, sum(line.quantity)
    FROM order_returns returned CROSS JOIN LATERAL jsonb_to_recordset(returned.items) AS line(sku text, quantity integer)
   WHERE returned.order_id = ANY (of_orders)
   GROUP BY returned.order_id, line.sku
$$;

-- Gives the stock of orders back, less what came back before, whether that was fit for sale or not. Call it with the orders locked: they come
-- first, then the products, sorted.
CREATE OR REPLACE FUNCTION give_stock_back(of_orders uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM products p
    WHERE p.sku IN (SELECT item.sku FROM order_items item WHERE item.order_id = ANY (of_orders))
    ORDER BY p.sku FOR NO KEY UPDATE;
  UPDATE products p SET stock = p.stock + back.quantity
    FROM (
      SELECT item.sku, sum(item.quantity - coalesce(came.quantity, 0)) AS quantity
        FROM order_items item LEFT JOIN came_back(of_orders) came ON came.order_id = item.order_id AND came.sku = item.sku
       WHERE item.order_id = ANY (of_orders)
       GROUP BY item.sku
    ) back
   WHERE p.sku = back.sku AND back.quantity > 0;
END $$;

-- Whether anything of an order did not come back.
CREATE FUNCTION is_anything_left(of_order uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM order_items item LEFT JOIN came_back(ARRAY[of_order]) came ON came.order_id = item.order_id AND came.sku = item.sku
                  WHERE item.order_id = of_order AND item.quantity > coalesce(came.quantity, 0))
$$;

-- As before, but that a cancellation gives no stock back that came back before.
CREATE OR REPLACE FUNCTION move_order(of_order uuid, by_customer text, allowed order_status[], target order_status, expected_versions integer[], lease_ms integer, trace_context text)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  moving orders%ROWTYPE;
  payment payments%ROWTYPE;
  detail jsonb;
  result text;
BEGIN
  SELECT o.* INTO moving FROM orders o WHERE o.id = of_order AND (by_customer IS NULL OR o.customer = by_customer) FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', 'not-found');
  END IF;
  result := may_move(moving, allowed, target, expected_versions);
  IF result = 'may' THEN
    payment := live_payment(moving.id);
    IF target = 'cancelled' AND payment.state IN ('requested', 'unknown', 'capturing') OR target = 'shipped' AND payment.state = 'capturing' THEN
      result := 'payment-under-way';
    ELSIF target = 'shipped' AND (payment.state = 'charged' AND payment.amount > 0 AND refundable(payment) = 0 OR NOT is_anything_left(moving.id)) THEN
      result := 'nothing-left';
    ELSIF target = 'shipped' AND payment.state = 'authorised' THEN
      UPDATE payments p SET state = 'capturing', due_at = now() + lease_ms * interval '1 ms', tries = 0, open_since = now(), settled_at = NULL WHERE p.id = payment.id RETURNING p.* INTO payment;
      result := 'capture';
    ELSE
      IF target = 'cancelled' THEN
        detail := give_back(payment);
      END IF;
      -- The event before the stock, as in place_orders: the first event on a server begins an epoch, and others wait for that.
      moving := next_version(moving, target, NULL, detail, move_order.trace_context);
      IF target = 'cancelled' THEN
        PERFORM give_stock_back(ARRAY[moving.id]);
      END IF;
      result := 'moved';
    END IF;
  END IF;
  RETURN json_build_object('outcome', result, 'order', order_json(moving), 'payment', CASE WHEN payment.id IS NOT NULL THEN payment_json(payment) END);
END $$;

CREATE FUNCTION return_json(returned order_returns) RETURNS json LANGUAGE sql STABLE AS $$
  SELECT json_build_object('id', returned.id, 'orderId', returned.order_id, 'items', returned.items, 'value', returned.value, 'restock', returned.restock,
                           'refund', (SELECT refund_json(refund) FROM refunds refund WHERE refund.id = returned.refund_id),
                           'reason', returned.reason, 'createdAt', returned.created_at)
$$;

-- [{ sku, quantity, … }] as { sku: quantity }, to be compared.
CREATE FUNCTION quantities(items jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_object_agg(line.sku, line.quantity) FROM jsonb_to_recordset(items) AS line(sku text, quantity integer)
$$;

-- Takes a part of an order back: { outcome, return, order, sku, returnable, payment }. asked: [{ sku, quantity }], each SKU once. Before the shipment
-- this cancels a part, after it it is a return. What it was worth is given back where it is refunded, up to what is left of the payment.
--   returned · replayed · key-reused · not-found · not-allowed · payment-under-way · too-many
CREATE FUNCTION return_items(return_id uuid, of_order uuid, asked jsonb, restocks boolean, is_refunded boolean, because text, by_whom text, key text, trace_context text)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  sold orders%ROWTYPE;
  payment payments%ROWTYPE;
  returned order_returns%ROWTYPE;
  short_sku text;
  short_left bigint;
  back jsonb;
  worth bigint;
  amount bigint := 0;
  refund_id uuid;
BEGIN
  SELECT o.* INTO sold FROM orders o WHERE o.id = of_order FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', 'not-found');
  END IF;
  SELECT r.* INTO returned FROM order_returns r WHERE r.returned_by = by_whom AND r.idempotency_key = key;
  IF FOUND THEN
    -- Its own, where the answer of the first call was lost.
    RETURN json_build_object('return', return_json(returned), 'outcome', CASE
      WHEN returned.id = return_id THEN 'returned'
      WHEN returned.order_id = of_order AND quantities(returned.items) = quantities(asked) AND returned.restock = restocks
           AND returned.refunds = is_refunded AND returned.reason IS NOT DISTINCT FROM because THEN 'replayed'
      ELSE 'key-reused'
    END);
  END IF;
  IF sold.status NOT IN ('paid', 'shipped', 'delivered') THEN
    RETURN json_build_object('outcome', 'not-allowed', 'order', order_json(sold));
  END IF;
  payment := live_payment(sold.id);
  -- Of what is only authorised nothing can be given back, and all of it would be captured.
  IF payment.state <> 'charged' THEN
    RETURN json_build_object('outcome', 'payment-under-way', 'order', order_json(sold), 'payment', payment_json(payment));
  END IF;

  SELECT line.sku, greatest(coalesce(item.quantity, 0) - coalesce(came.quantity, 0), 0)
    INTO short_sku, short_left
    FROM jsonb_to_recordset(asked) AS line(sku text, quantity integer)
    LEFT JOIN order_items item ON item.order_id = sold.id AND item.sku = line.sku
    LEFT JOIN came_back(ARRAY[sold.id]) came ON came.sku = line.sku
   WHERE line.quantity > coalesce(item.quantity, 0) - coalesce(came.quantity, 0)
   ORDER BY line.sku LIMIT 1;
  IF FOUND THEN
    RETURN json_build_object('outcome', 'too-many', 'order', order_json(sold), 'sku', short_sku, 'returnable', short_left);
  END IF;

  SELECT jsonb_agg(jsonb_build_object('sku', item.sku, 'quantity', line.quantity, 'unitPrice', item.unit_price) ORDER BY item.position), sum(line.quantity * item.unit_price)
    INTO back, worth
    FROM jsonb_to_recordset(asked) AS line(sku text, quantity integer) JOIN order_items item ON item.order_id = sold.id AND item.sku = line.sku;
  IF is_refunded THEN
    amount := least(worth, refundable(payment));
  END IF;
  IF amount > 0 THEN
    refund_id := uuid_of_now();
  END IF;
  -- The key first: where it is used for another order right now, nothing else was done.
  INSERT INTO order_returns (id, order_id, returned_by, idempotency_key, items, value, restock, refunds, refund_id, reason)
  VALUES (return_id, sold.id, by_whom, key, back, worth, restocks, is_refunded, refund_id, because)
  ON CONFLICT DO NOTHING
  RETURNING * INTO returned;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', 'key-reused');
  END IF;
  IF refund_id IS NOT NULL THEN
    INSERT INTO refunds (id, payment_id, order_id, amount, currency, why, due_at) VALUES (refund_id, payment.id, sold.id, amount, payment.currency, 'returned', now());
  END IF;
  sold := next_version(sold, sold.status, 'returned', jsonb_build_object(
    'items', (SELECT jsonb_agg(line - 'unitPrice') FROM jsonb_array_elements(back) AS line),
    'restock', restocks,
    'refund', CASE WHEN refund_id IS NOT NULL THEN jsonb_build_object('id', refund_id, 'payment', payment.id, 'amount', amount) END), return_items.trace_context);
  -- After the event, as in move_order.
  IF restocks THEN
    PERFORM FROM products p WHERE p.sku IN (SELECT line.sku FROM jsonb_to_recordset(back) AS line(sku text)) ORDER BY p.sku FOR NO KEY UPDATE;
    UPDATE products p SET stock = p.stock + line.quantity FROM jsonb_to_recordset(back) AS line(sku text, quantity integer) WHERE p.sku = line.sku;
  END IF;
  RETURN json_build_object('outcome', 'returned', 'return', return_json(returned), 'order', order_json(sold));
END $$;
