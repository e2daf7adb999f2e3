-- How far the retention of the outbox has come. One row, which a round locks: so one instance prunes at a time.
--
-- pruned_below: events of positions below this may be gone. A stream that goes on from before it is told so.
-- swept_order_id: after which order the next round goes on.
-- due_at: when that is, whichever instance does it.
CREATE TABLE "outbox_retention" (
    "id" BOOLEAN NOT NULL DEFAULT true,
    "pruned_below" BIGINT NOT NULL DEFAULT 0,
    "swept_order_id" UUID NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    "due_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "outbox_retention_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "outbox_retention_one_row" CHECK ("id")
);

INSERT INTO "outbox_retention" DEFAULT VALUES;

-- One round: looks at the next batch_max events by their orders' ids, which sort by time, and deletes all events of those orders
-- of which no event is younger than retention_ms, still to be published, dead, leased, or above the feed's horizon. So the
-- history of an order is whole, or gone up to a point. (Not by tx: one transaction may have written millions of events.)
--
-- A sweep ends where a batch has only younger events, and the next one begins pause_ms later, with those that were kept.
-- Between its rounds lies four times what a round took. Returns how many events went, and the ms until the next round is due.
--
-- Without JIT: up to PostgreSQL 17 it is started by the price of a scan that enable_seqscan forbids, and takes longer than a round.
-- Nobody waits for it: what it deletes nobody writes, and it gives up its own wait for a lock after 100 ms.
CREATE FUNCTION prune_outbox(retention_ms bigint, batch_max integer, pause_ms bigint)
RETURNS TABLE (pruned integer, due_in_ms double precision) LANGUAGE plpgsql SET enable_seqscan = off SET jit = off SET lock_timeout = '100ms' AS $$
DECLARE
  sweep outbox_retention%ROWTYPE;
  cutoff timestamptz := now() - retention_ms * interval '1 ms';
  below bigint;
  found_n integer;
  old_ids uuid[];
  ids uuid[];
  last_id uuid;
  deleted_tx bigint;
BEGIN
  pruned := 0;
  SELECT r.* INTO sweep FROM outbox_retention r WHERE r.id AND r.due_at <= now() FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    SELECT greatest(0, extract(epoch FROM r.due_at - now()) * 1000) INTO due_in_ms FROM outbox_retention r WHERE r.id;
    RETURN NEXT;
    RETURN;
  END IF;

  -- The feed's horizon, in the epoch of the last event (the bits above 48), and the first event that is under a lease.
  below := least(((SELECT max(event.tx) FROM outbox event) >> 48 << 48) | (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint,
                 (SELECT min(lease.tx) FROM outbox_leases lease));

  SELECT count(*), array_agg(found.order_id) FILTER (WHERE found.created_at < cutoff), (array_agg(found.order_id ORDER BY found.order_id DESC))[1]
    INTO found_n, old_ids, last_id
    FROM (
      SELECT event.order_id, event.created_at
        FROM outbox event
       WHERE event.order_id > sweep.swept_order_id
       ORDER BY event.order_id, event.version
       LIMIT batch_max
    ) found;

  -- An aggregate in a LATERAL is a look-up for each order, whatever the planner believes of the table.
  SELECT array_agg(old.order_id) INTO ids
    FROM (SELECT DISTINCT unnest(old_ids) AS order_id) old
   CROSS JOIN LATERAL (
     SELECT bool_and(event.created_at < cutoff AND event.available_at IS NULL AND event.dead_at IS NULL AND event.tx < below) AS goes
       FROM outbox event WHERE event.order_id = old.order_id
   ) events
   WHERE events.goes;

  IF ids IS NOT NULL THEN
    WITH deleted AS (
      DELETE FROM outbox event WHERE event.order_id = ANY (ids) AND event.available_at IS NULL AND event.dead_at IS NULL AND event.tx < below RETURNING event.tx
    )
    SELECT count(*), max(deleted.tx) INTO pruned, deleted_tx FROM deleted;
  END IF;

  IF found_n < batch_max OR old_ids IS NULL THEN
    last_id := '00000000-0000-0000-0000-000000000000';
    sweep.due_at := clock_timestamp() + pause_ms * interval '1 ms';
  ELSE
    sweep.due_at := clock_timestamp() + 4 * (clock_timestamp() - now());
  END IF;
  UPDATE outbox_retention r
     SET pruned_below = greatest(r.pruned_below, deleted_tx + 1), swept_order_id = last_id, due_at = sweep.due_at
   WHERE r.id
  RETURNING greatest(0, extract(epoch FROM r.due_at - clock_timestamp()) * 1000) INTO due_in_ms;
  RETURN NEXT;
END $$;
