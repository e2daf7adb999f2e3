SET lock_timeout = '1s';

-- requested: stored, and the gateway may have been asked. unknown: it was asked, and did not say. pending: it, or the customer, is still at it.
-- capturing and voiding: what was authorised is to be taken, or let go; the gateway may have been asked. declined and voided are ends.
CREATE TYPE "payment_state" AS ENUM ('requested', 'unknown', 'pending', 'authorised', 'capturing', 'charged', 'declined', 'voiding', 'voided');

CREATE TYPE "refund_state" AS ENUM ('requested', 'unknown', 'pending', 'refunded', 'failed');

CREATE TABLE "payments" (
    "id" UUID NOT NULL,
    "order_id" UUID NOT NULL,
    "attempt" INTEGER NOT NULL,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "captures" BOOLEAN NOT NULL,
    "state" "payment_state" NOT NULL DEFAULT 'requested',
    "reference" TEXT,
    "reason" TEXT,
    "action_url" TEXT,
    "due_at" TIMESTAMPTZ(3),
    "tries" INTEGER NOT NULL DEFAULT 0,
    "last_error" TEXT,
    "requested_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "open_since" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(3),

    CONSTRAINT "payments_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "payments_amount_not_negative" CHECK ("amount" >= 0)
);

CREATE TABLE "refunds" (
    "id" UUID NOT NULL,
    "payment_id" UUID NOT NULL,
    "order_id" UUID NOT NULL,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "state" "refund_state" NOT NULL DEFAULT 'requested',
    "why" TEXT NOT NULL,
    "asked_by" TEXT,
    "idempotency_key" TEXT,
    "reference" TEXT,
    "reason" TEXT,
    "due_at" TIMESTAMPTZ(3),
    "tries" INTEGER NOT NULL DEFAULT 0,
    "last_error" TEXT,
    "requested_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(3),

    CONSTRAINT "refunds_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "refunds_amount_positive" CHECK ("amount" > 0)
);

-- What the demo gateway was asked for, as a real one would keep it on its own side. A service with a gateway of its own writes nothing here.
CREATE TABLE "demo_ledger" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "charge_id" UUID,
    "order_id" UUID,
    "customer" TEXT,
    "amount" BIGINT NOT NULL,
    "currency" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "reason" TEXT,
    "calls" INTEGER NOT NULL DEFAULT 1,
    "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "demo_ledger_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "demo_ledger_charge_id_idx" ON "demo_ledger"("charge_id");

CREATE UNIQUE INDEX "payments_order_id_attempt_key" ON "payments"("order_id", "attempt");

-- Nobody pays twice: an order has one payment that is not over.
CREATE UNIQUE INDEX "payments_one_live_idx" ON "payments"("order_id") WHERE "state" NOT IN ('declined', 'voided');

-- What the settler looks for, and nothing else.
CREATE INDEX "payments_due_at_idx" ON "payments"("due_at") WHERE "due_at" IS NOT NULL;

CREATE INDEX "refunds_due_at_idx" ON "refunds"("due_at") WHERE "due_at" IS NOT NULL;

CREATE INDEX "refunds_payment_id_idx" ON "refunds"("payment_id");

CREATE UNIQUE INDEX "refunds_asked_by_idempotency_key_key" ON "refunds"("asked_by", "idempotency_key");

ALTER TABLE "refunds" ADD CONSTRAINT "refunds_payment_id_fkey" FOREIGN KEY ("payment_id") REFERENCES "payments"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- Whoever may place orders may have them paid.
--
-- safe-because: it gives rights to tables of this migration, and takes none away
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
    EXECUTE 'GRANT SELECT, INSERT, UPDATE ON payments, refunds, demo_ledger TO ' || writer;
  END LOOP;
END $$;

-- What happened, where it is not that the order reached the state in type; and what a consumer needs beside it.
ALTER TABLE "outbox" ADD COLUMN "event" TEXT, ADD COLUMN "detail" JSONB;

-- Numbers are exact: no total is above 2^53 - 1.
CREATE FUNCTION order_json(placed orders) RETURNS json LANGUAGE sql STABLE AS $$
  SELECT json_build_object('id', placed.id, 'customer', placed.customer, 'status', placed.status, 'currency', placed.currency, 'total', placed.total,
                           'reference', placed.reference, 'version', placed.version, 'createdAt', placed.created_at,
                           'items', (SELECT json_agg(json_build_object('sku', item.sku, 'quantity', item.quantity, 'unitPrice', item.unit_price) ORDER BY item.position)
                                       FROM order_items item WHERE item.order_id = placed.id))
$$;

CREATE FUNCTION refund_json(refund refunds) RETURNS json LANGUAGE sql STABLE AS $$
  SELECT json_build_object('id', refund.id, 'paymentId', refund.payment_id, 'orderId', refund.order_id, 'amount', refund.amount, 'currency', refund.currency,
                           'state', refund.state, 'why', refund.why, 'reference', refund.reference, 'reason', refund.reason,
                           'requestedAt', refund.requested_at, 'settledAt', refund.settled_at)
$$;

CREATE FUNCTION payment_json(payment payments) RETURNS json LANGUAGE sql STABLE AS $$
  SELECT json_build_object('id', payment.id, 'orderId', payment.order_id, 'attempt', payment.attempt, 'amount', payment.amount, 'currency', payment.currency,
                           'captures', payment.captures, 'state', payment.state, 'reference', payment.reference, 'reason', payment.reason, 'actionUrl', payment.action_url,
                           'requestedAt', payment.requested_at, 'settledAt', payment.settled_at,
                           'refunds', coalesce((SELECT json_agg(refund_json(refund) ORDER BY refund.requested_at, refund.id) FROM refunds refund WHERE refund.payment_id = payment.id), '[]'))
$$;

-- Whether an order can go to a state. The version before the last move counts as expected too, so that a lost answer can be asked for again.
CREATE FUNCTION may_move(moving orders, allowed order_status[], target order_status, expected_versions integer[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN expected_versions IS NOT NULL
         AND NOT moving.version = ANY (expected_versions)
         AND NOT (moving.status = target AND moving.version - 1 = ANY (expected_versions)) THEN 'version-mismatch'
    WHEN moving.status = target THEN 'already'
    WHEN NOT moving.status = ANY (allowed) THEN 'not-allowed'
    ELSE 'may'
  END
$$;

-- The payment of an order that is not over, locked. Call it with the order locked: the order always comes first.
CREATE FUNCTION live_payment(of_order uuid) RETURNS payments LANGUAGE sql AS $$
  SELECT payment FROM payments payment WHERE payment.order_id = of_order AND payment.state NOT IN ('declined', 'voided') FOR NO KEY UPDATE
$$;

-- What can still be given back of a payment: what was asked for before counts, unless it failed.
CREATE FUNCTION refundable(payment payments) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT CASE payment.state WHEN 'charged' THEN payment.amount - coalesce((SELECT sum(refund.amount) FROM refunds refund WHERE refund.payment_id = payment.id AND refund.state <> 'failed'), 0)::bigint ELSE 0 END
$$;

-- A UUIDv7 of now, as the service makes them: a gateway's list is searched by the time in it.
CREATE FUNCTION uuid_of_now() RETURNS uuid LANGUAGE sql AS $$
  SELECT (lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;

-- Gives the money of a cancelled order back, and lets go of what is authorised or pending: stored here, done by the settler.
CREATE FUNCTION give_back(payment payments) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  amount bigint := refundable(payment);
  refund_id uuid := uuid_of_now();
BEGIN
  IF payment.state IN ('authorised', 'pending') THEN
    UPDATE payments p SET state = 'voiding', due_at = now(), tries = 0, open_since = now(), settled_at = NULL WHERE p.id = payment.id;
    RETURN jsonb_build_object('voided', payment.id);
  END IF;
  IF amount > 0 THEN
    INSERT INTO refunds (id, payment_id, order_id, amount, currency, why, due_at) VALUES (refund_id, payment.id, payment.order_id, amount, payment.currency, 'cancelled', now());
    RETURN jsonb_build_object('refund', jsonb_build_object('id', refund_id, 'payment', payment.id, 'amount', amount));
  END IF;
  RETURN NULL;
END $$;

-- One more version of an order, with its event.
CREATE FUNCTION next_version(moving orders, to_status order_status, what text, detail jsonb, trace_context text) RETURNS orders LANGUAGE plpgsql AS $$
DECLARE
  moved orders%ROWTYPE;
BEGIN
  UPDATE orders o SET status = to_status, version = o.version + 1 WHERE o.id = moving.id RETURNING o.* INTO moved;
  INSERT INTO outbox (order_id, version, type, event, detail, trace_context) VALUES (moved.id, moved.version, to_status, what, next_version.detail, next_version.trace_context);
  RETURN moved;
END $$;

-- Moves an order on: { outcome, order, payment }. What an order was paid with decides with it: nothing is cancelled while a payment is
-- under way, and an authorised one is captured before the order is shipped (outcome capture: the caller, or the settler after lease_ms).
--   moved · already · not-allowed · version-mismatch · not-found · payment-under-way · capture
CREATE FUNCTION move_order(of_order uuid, by_customer text, allowed order_status[], target order_status, expected_versions integer[], lease_ms integer, trace_context text)
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
        PERFORM FROM products p
          WHERE p.sku IN (SELECT item.sku FROM order_items item WHERE item.order_id = moving.id)
          ORDER BY p.sku FOR NO KEY UPDATE;
        UPDATE products p SET stock = p.stock + item.quantity
          FROM order_items item
         WHERE item.order_id = moving.id AND p.sku = item.sku;
      END IF;
      result := 'moved';
    END IF;
  END IF;
  RETURN json_build_object('outcome', result, 'order', order_json(moving), 'payment', CASE WHEN payment.id IS NOT NULL THEN payment_json(payment) END);
END $$;

-- For the version before, which knows no payments: the same, but that it makes orders paid by itself, until it is gone, and captures nothing.
CREATE OR REPLACE FUNCTION transition_order(order_id uuid, by_customer text, allowed order_status[], target order_status, expected_versions integer[], trace_context text)
RETURNS TABLE (outcome text, id uuid, customer text, status order_status, currency text, total bigint, reference text, version integer, created_at timestamptz, items jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  moved json;
  found_order orders%ROWTYPE;
  payment payments%ROWTYPE;
BEGIN
  SELECT o.* INTO found_order FROM orders o WHERE o.id = transition_order.order_id AND (by_customer IS NULL OR o.customer = by_customer) FOR NO KEY UPDATE;
  payment := live_payment(found_order.id);
  IF target = 'paid' AND payment.id IS NOT NULL AND found_order.status = 'placed' OR target = 'shipped' AND payment.state = 'authorised' THEN
    moved := json_build_object('outcome', 'not-allowed');
  ELSE
    moved := move_order(transition_order.order_id, by_customer, allowed, target, expected_versions, 0, transition_order.trace_context);
  END IF;
  SELECT o.* INTO found_order FROM orders o WHERE o.id = transition_order.order_id AND (by_customer IS NULL OR o.customer = by_customer);
  RETURN QUERY
  SELECT CASE WHEN moved->>'outcome' IN ('payment-under-way', 'nothing-left') THEN 'not-allowed' ELSE moved->>'outcome' END,
         found_order.id, found_order.customer, found_order.status, found_order.currency, found_order.total,
         found_order.reference, found_order.version, found_order.created_at::timestamptz,
         (SELECT jsonb_agg(jsonb_build_object('sku', item.sku, 'quantity', item.quantity, 'unitPrice', item.unit_price) ORDER BY item.position)
            FROM order_items item WHERE item.order_id = found_order.id);
END $$;

-- Stores that an order is to be paid, before anybody is asked for money: { outcome, order, payment }. For lease_ms the payment is the caller's.
-- Nothing is asked for an order that costs nothing.
--   begun · paid · already · under-way · not-allowed · version-mismatch · not-found
CREATE FUNCTION begin_payment(payment_id uuid, of_order uuid, by_customer text, expected_versions integer[], captures boolean, lease_ms integer, trace_context text)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  paying orders%ROWTYPE;
  payment payments%ROWTYPE;
  result text;
BEGIN
  SELECT o.* INTO paying FROM orders o WHERE o.id = of_order AND (by_customer IS NULL OR o.customer = by_customer) FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', 'not-found');
  END IF;
  result := may_move(paying, ARRAY['placed']::order_status[], 'paid', expected_versions);
  payment := live_payment(paying.id);
  IF result = 'may' THEN
    IF payment.id IS NOT NULL THEN
      -- Its own, where the answer of the first call was lost.
      result := CASE WHEN payment.id = payment_id THEN 'begun' ELSE 'under-way' END;
    ELSE
      INSERT INTO payments (id, order_id, attempt, amount, currency, captures, state, due_at, settled_at)
      SELECT payment_id, paying.id, coalesce(max(earlier.attempt), 0) + 1, paying.total, paying.currency, begin_payment.captures,
             CASE paying.total WHEN 0 THEN 'charged' ELSE 'requested' END::payment_state,
             CASE paying.total WHEN 0 THEN NULL ELSE now() + lease_ms * interval '1 ms' END,
             CASE paying.total WHEN 0 THEN now() END
        FROM payments earlier WHERE earlier.order_id = paying.id
      RETURNING * INTO payment;
      result := 'begun';
      IF paying.total = 0 THEN
        paying := next_version(paying, 'paid', NULL, NULL, begin_payment.trace_context);
        result := 'paid';
      END IF;
    END IF;
  END IF;
  RETURN json_build_object('outcome', result, 'order', order_json(paying), 'payment', CASE WHEN payment.id IS NOT NULL THEN payment_json(payment) END);
END $$;

-- What the gateway said of a payment, written down: { outcome, order, payment }. said is one of
--   charged · authorised · pending · declined · voided: its own words
--   unknown: it did not say; asked again after retry_ms
--   not-called: it was certainly not asked, and the payment is over, if nobody else was at it
-- outcome: settled (this call, or one before it), or open: it is asked again. movedTo: where this call moved the order, else null.
CREATE FUNCTION settle_payment(payment_id uuid, said text, by_reference text, because text, act_at text, retry_ms integer, error text, trace_context text)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  paid_order orders%ROWTYPE;
  payment payments%ROWTYPE;
  before integer;
  detail jsonb;
BEGIN
  SELECT o.* INTO paid_order FROM orders o WHERE o.id = (SELECT p.order_id FROM payments p WHERE p.id = payment_id) FOR NO KEY UPDATE;
  SELECT p.* INTO payment FROM payments p WHERE p.id = payment_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no payment %', payment_id USING ERRCODE = 'no_data_found';
  END IF;
  before := paid_order.version;
  detail := jsonb_build_object('payment', jsonb_build_object('id', payment.id, 'amount', payment.amount, 'reference', by_reference));

  IF payment.state IN ('authorised', 'charged', 'declined', 'voided') THEN
    NULL;
  ELSIF payment.state IN ('requested', 'unknown', 'pending') AND said IN ('charged', 'authorised') THEN
    UPDATE payments p SET state = said::payment_state, reference = by_reference, reason = NULL, action_url = NULL, due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
    IF paid_order.status = 'placed' THEN
      paid_order := next_version(paid_order, 'paid', NULL, detail, settle_payment.trace_context);
    ELSIF paid_order.status = 'cancelled' THEN
      PERFORM give_back(payment);
    END IF;
  ELSIF payment.state IN ('requested', 'unknown', 'pending') AND (said IN ('declined', 'voided') OR said = 'not-called' AND payment.state = 'requested' AND payment.tries = 0) THEN
    UPDATE payments p SET state = 'declined', reference = by_reference, reason = coalesce(because, said), action_url = NULL, due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
  ELSIF payment.state IN ('requested', 'unknown') AND said = 'pending' THEN
    UPDATE payments p SET state = 'pending', reference = by_reference, action_url = act_at, due_at = now() + retry_ms * interval '1 ms' WHERE p.id = payment.id RETURNING p.* INTO payment;
  ELSIF payment.state = 'capturing' AND said = 'charged' THEN
    UPDATE payments p SET state = 'charged', due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
    IF paid_order.status = 'paid' THEN
      paid_order := next_version(paid_order, 'shipped', NULL, detail, settle_payment.trace_context);
    END IF;
  ELSIF payment.state = 'capturing' AND said IN ('declined', 'voided') THEN
    UPDATE payments p SET state = 'declined', reason = coalesce(because, said), due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
    -- It can be paid again.
    IF paid_order.status = 'paid' THEN
      paid_order := next_version(paid_order, 'placed', 'payment-failed', detail, settle_payment.trace_context);
    END IF;
  ELSIF payment.state = 'voiding' AND said IN ('voided', 'declined') THEN
    UPDATE payments p SET state = 'voided', due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
  ELSIF payment.state = 'voiding' AND said = 'charged' THEN
    UPDATE payments p SET state = 'charged', due_at = NULL, settled_at = now() WHERE p.id = payment.id RETURNING p.* INTO payment;
    PERFORM give_back(payment);
  ELSE
    UPDATE payments p
       SET state = CASE WHEN payment.state = 'requested' THEN 'unknown' ELSE payment.state END, last_error = coalesce(settle_payment.error, p.last_error), due_at = now() + retry_ms * interval '1 ms'
     WHERE p.id = payment.id RETURNING p.* INTO payment;
  END IF;
  RETURN json_build_object('outcome', CASE WHEN payment.due_at IS NULL THEN 'settled' ELSE 'open' END, 'order', order_json(paid_order), 'payment', payment_json(payment),
                           'movedTo', CASE WHEN paid_order.version > before THEN paid_order.status END);
END $$;

-- Stores that money is to be given back, before anybody is asked to: { outcome, refund, refundable }. Without an amount all that is left.
-- For lease_ms the refund is the caller's.
--   begun · replayed · key-reused · not-found · not-charged · too-much
CREATE FUNCTION begin_refund(refund_id uuid, of_order uuid, wanted bigint, because text, by_whom text, key text, lease_ms integer)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  refunded orders%ROWTYPE;
  payment payments%ROWTYPE;
  refund refunds%ROWTYPE;
  remaining bigint;
  result text;
BEGIN
  SELECT o.* INTO refunded FROM orders o WHERE o.id = of_order FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN json_build_object('outcome', 'not-found');
  END IF;
  SELECT r.* INTO refund FROM refunds r WHERE r.asked_by = by_whom AND r.idempotency_key = key;
  IF FOUND THEN
    result := CASE WHEN refund.id = refund_id THEN 'begun' WHEN refund.order_id = of_order AND (wanted IS NULL OR refund.amount = wanted) THEN 'replayed' ELSE 'key-reused' END;
  ELSE
    payment := live_payment(refunded.id);
    remaining := refundable(payment);
    IF payment.state IS DISTINCT FROM 'charged' THEN
      result := 'not-charged';
    ELSIF coalesce(wanted, remaining) > remaining OR remaining = 0 THEN
      result := 'too-much';
    ELSE
      INSERT INTO refunds (id, payment_id, order_id, amount, currency, why, asked_by, idempotency_key, due_at)
      VALUES (refund_id, payment.id, refunded.id, coalesce(wanted, remaining), payment.currency, coalesce(because, 'requested'), by_whom, key, now() + lease_ms * interval '1 ms')
      -- The key may be used for another order right now.
      ON CONFLICT (asked_by, idempotency_key) DO NOTHING
      RETURNING * INTO refund;
      result := CASE WHEN FOUND THEN 'begun' ELSE 'key-reused' END;
    END IF;
  END IF;
  RETURN json_build_object('outcome', result, 'refund', CASE WHEN refund.id IS NOT NULL AND result <> 'key-reused' THEN refund_json(refund) END, 'refundable', remaining);
END $$;

-- What the gateway said of a refund, written down, as settle_payment. The cancellation of an order has told of its refund; any other is an event of its own.
CREATE FUNCTION settle_refund(refund_id uuid, said text, by_reference text, because text, retry_ms integer, error text, trace_context text)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  refunded orders%ROWTYPE;
  refund refunds%ROWTYPE;
BEGIN
  SELECT o.* INTO refunded FROM orders o WHERE o.id = (SELECT r.order_id FROM refunds r WHERE r.id = refund_id) FOR NO KEY UPDATE;
  SELECT r.* INTO refund FROM refunds r WHERE r.id = refund_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'There is no refund %', refund_id USING ERRCODE = 'no_data_found';
  END IF;
  IF refund.state IN ('refunded', 'failed') THEN
    NULL;
  ELSIF said IN ('refunded', 'failed') THEN
    UPDATE refunds r SET state = said::refund_state, reference = by_reference, reason = because, due_at = NULL, settled_at = now() WHERE r.id = refund.id RETURNING r.* INTO refund;
    IF said = 'refunded' AND (refund.why <> 'cancelled' OR refund.asked_by IS NOT NULL) THEN
      PERFORM next_version(refunded, refunded.status, 'refunded', jsonb_build_object('refund', jsonb_build_object('id', refund.id, 'payment', refund.payment_id, 'amount', refund.amount)), settle_refund.trace_context);
    END IF;
  ELSE
    UPDATE refunds r
       SET state = CASE WHEN said = 'pending' THEN 'pending' WHEN refund.state = 'requested' THEN 'unknown' ELSE refund.state END,
           reference = coalesce(by_reference, r.reference), last_error = coalesce(settle_refund.error, r.last_error), due_at = now() + retry_ms * interval '1 ms'
     WHERE r.id = refund.id RETURNING r.* INTO refund;
  END IF;
  RETURN json_build_object('outcome', CASE WHEN refund.due_at IS NULL THEN 'settled' ELSE 'open' END, 'refund', refund_json(refund));
END $$;

-- Takes payments that are due, for lease_ms: nobody else gets them before that is over.
CREATE FUNCTION claim_payments(how_many integer, lease_ms integer)
RETURNS TABLE ("id" uuid, "orderId" uuid, "customer" text, "amount" bigint, "currency" text, "captures" boolean, "state" payment_state, "tries" integer, "ageMs" float8) LANGUAGE sql AS $$
  WITH claimed AS (
    UPDATE payments p SET due_at = now() + lease_ms * interval '1 ms', tries = p.tries + 1
      FROM (SELECT due.id FROM payments due WHERE due.due_at <= now() ORDER BY due.due_at LIMIT how_many FOR UPDATE SKIP LOCKED) taken
     WHERE p.id = taken.id
    RETURNING p.*
  )
  SELECT claimed.id, claimed.order_id, o.customer, claimed.amount, claimed.currency, claimed.captures, claimed.state, claimed.tries, extract(epoch FROM now() - claimed.requested_at) * 1000
    FROM claimed JOIN orders o ON o.id = claimed.order_id
$$;

CREATE FUNCTION claim_refunds(how_many integer, lease_ms integer)
RETURNS TABLE ("id" uuid, "paymentId" uuid, "orderId" uuid, "amount" bigint, "currency" text, "state" refund_state, "tries" integer, "ageMs" float8) LANGUAGE sql AS $$
  UPDATE refunds r SET due_at = now() + lease_ms * interval '1 ms', tries = r.tries + 1
    FROM (SELECT due.id FROM refunds due WHERE due.due_at <= now() ORDER BY due.due_at LIMIT how_many FOR UPDATE SKIP LOCKED) taken
   WHERE r.id = taken.id
  RETURNING r.id, r.payment_id, r.order_id, r.amount, r.currency, r.state, r.tries, extract(epoch FROM now() - r.requested_at) * 1000
$$;

-- claim_outbox, which stays for the version before, with what happened.
CREATE FUNCTION claim_order_events(how_many integer, lease_ms integer)
RETURNS TABLE ("orderId" uuid, "version" integer, "type" text, "detail" jsonb, "at" timestamptz, "attempts" integer, "hasFailed" boolean, "isBehind" boolean,
               "customer" text, "currency" text, "total" bigint, "traceparent" text)
LANGUAGE sql SET enable_seqscan = off
BEGIN ATOMIC
  WITH claimed AS (
    UPDATE outbox
       SET attempts = outbox.attempts + CASE WHEN head.is_behind THEN 0 ELSE 1 END, available_at = now() + lease_ms * interval '1 ms'
      FROM (
        SELECT available.order_id, available.version,
               EXISTS (SELECT FROM outbox earlier
                        WHERE earlier.order_id = available.order_id AND earlier.version < available.version
                          AND (earlier.available_at IS NOT NULL OR EXISTS (SELECT FROM outbox_leases lease WHERE lease.tx = earlier.tx))) AS is_behind
          FROM (
            SELECT event.order_id, event.version
              FROM outbox event
             WHERE event.dead_at IS NULL AND event.available_at <= now()
             ORDER BY event.available_at
             LIMIT how_many
               FOR UPDATE SKIP LOCKED
          ) available
      ) head
     WHERE outbox.order_id = head.order_id AND outbox.version = head.version
    RETURNING outbox.*, head.is_behind
  )
  SELECT claimed.order_id, claimed.version, coalesce(claimed.event, claimed.type::text), claimed.detail, claimed.created_at, claimed.attempts, claimed.last_error IS NOT NULL, claimed.is_behind,
         o.customer, o.currency, o.total, claimed.trace_context
    FROM claimed JOIN orders o ON o.id = claimed.order_id;
END;
