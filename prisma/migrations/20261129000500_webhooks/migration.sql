SET lock_timeout = '1s';

-- Where customers want to be told of their orders. The secret is kept as it is: each delivery is signed with it.
CREATE TABLE "webhook_endpoints" (
    "id" UUID NOT NULL,
    "customer" TEXT NOT NULL,
    "url" TEXT NOT NULL,
    "secret" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "webhook_endpoints_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "webhook_endpoints_customer_id_idx" ON "webhook_endpoints"("customer", "id");

-- One event for one endpoint. state: pending, delivered, failed. due_at: when it is sent, the end of a lease, or of a pause; NULL: not any more.
CREATE TABLE "webhook_deliveries" (
    "id" UUID NOT NULL,
    "endpoint_id" UUID NOT NULL,
    "order_id" UUID NOT NULL,
    "version" INTEGER NOT NULL,
    "payload" JSONB NOT NULL,
    "state" TEXT NOT NULL DEFAULT 'pending',
    "tries" INTEGER NOT NULL DEFAULT 0,
    "due_at" TIMESTAMPTZ(3) DEFAULT CURRENT_TIMESTAMP,
    "last_status" INTEGER,
    "last_error" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "delivered_at" TIMESTAMPTZ(3),

    CONSTRAINT "webhook_deliveries_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "webhook_deliveries_state_known" CHECK ("state" IN ('pending', 'delivered', 'failed'))
);

-- The relay may publish an event more than once: it is one delivery.
CREATE UNIQUE INDEX "webhook_deliveries_endpoint_id_order_id_version_key" ON "webhook_deliveries"("endpoint_id", "order_id", "version");

CREATE INDEX "webhook_deliveries_endpoint_id_id_idx" ON "webhook_deliveries"("endpoint_id", "id");

-- What the sender looks for, and nothing else.
CREATE INDEX "webhook_deliveries_due_at_idx" ON "webhook_deliveries"("due_at") WHERE "due_at" IS NOT NULL;

ALTER TABLE "webhook_deliveries" ADD CONSTRAINT "webhook_deliveries_endpoint_id_fkey" FOREIGN KEY ("endpoint_id") REFERENCES "webhook_endpoints"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- Whoever may place orders may have their events sent.
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
    EXECUTE 'GRANT SELECT, INSERT, DELETE ON webhook_endpoints TO ' || writer;
    EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_deliveries TO ' || writer;
  END LOOP;
END $$;

-- Takes deliveries that are due, for lease_ms: nobody else gets them before that is over. Of one endpoint at most per_endpoint, with those that
-- the caller has on their way to it (busy, and how many by its place in under_way): an endpoint that hangs keeps no other waiting.
CREATE FUNCTION claim_deliveries(how_many integer, per_endpoint integer, busy uuid[], under_way integer[], lease_ms integer)
RETURNS TABLE ("id" uuid, "endpointId" uuid, "url" text, "secret" text, "payload" jsonb, "tries" integer) LANGUAGE sql SET enable_seqscan = off AS $$
  WITH occupied AS (
    SELECT * FROM unnest(busy, under_way) AS occupied(endpoint_id, count)
  ), candidate AS (
    SELECT due.id, due.due_at, row_number() OVER (PARTITION BY due.endpoint_id ORDER BY due.due_at, due.id)
                               + coalesce((SELECT occupied.count FROM occupied WHERE occupied.endpoint_id = due.endpoint_id), 0) AS place
      FROM (
        SELECT delivery.id, delivery.endpoint_id, delivery.due_at FROM webhook_deliveries delivery
         WHERE delivery.due_at <= now() AND NOT delivery.endpoint_id = ANY (ARRAY(SELECT occupied.endpoint_id FROM occupied WHERE occupied.count >= per_endpoint))
         ORDER BY delivery.due_at LIMIT 1000
      ) due
  ), taken AS (
    SELECT delivery.id FROM webhook_deliveries delivery
     WHERE delivery.id = ANY (ARRAY(SELECT candidate.id FROM candidate WHERE candidate.place <= per_endpoint ORDER BY candidate.due_at, candidate.id LIMIT how_many))
       AND delivery.due_at <= now()
       FOR UPDATE SKIP LOCKED
  ), claimed AS (
    UPDATE webhook_deliveries delivery SET due_at = now() + lease_ms * interval '1 ms', tries = delivery.tries + 1
      FROM taken WHERE delivery.id = taken.id
    RETURNING delivery.*
  )
  SELECT claimed.id, claimed.endpoint_id, endpoint.url, endpoint.secret, claimed.payload, claimed.tries
    FROM claimed JOIN webhook_endpoints endpoint ON endpoint.id = claimed.endpoint_id
$$;
