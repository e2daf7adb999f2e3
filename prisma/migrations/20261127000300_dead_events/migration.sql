SET lock_timeout = '1s';

-- When an operator gave a dead event up for good: it is not published, and the later ones of its order go on.
ALTER TABLE "outbox" ADD COLUMN "discarded_at" TIMESTAMPTZ(3);

-- Whether an event is held behind one of those that are under the lease.
ALTER TABLE "outbox_leases" ADD COLUMN "has_followers" BOOLEAN NOT NULL DEFAULT false;

-- An event behind one of its order that is not published is held: its available_at is infinity, where no claim looks. So a
-- claim costs what can be published, and not what waits behind dead events, a backoff or a lease. The publication of the
-- one before makes it available.
--
-- Makes the events available that are next after these, which are published or discarded.
CREATE FUNCTION release_followers(ids uuid[], versions integer[]) RETURNS void
LANGUAGE sql SET enable_seqscan = off
BEGIN ATOMIC
  UPDATE outbox SET available_at = now()
    FROM unnest(ids, versions) AS done(order_id, version)
   CROSS JOIN LATERAL (
     SELECT later.version FROM outbox later WHERE later.order_id = done.order_id AND later.version > done.version ORDER BY later.version LIMIT 1
   ) follower
   WHERE outbox.order_id = done.order_id AND outbox.version = follower.version AND outbox.available_at = 'infinity';
END;

-- Whether the event is certainly behind one that is not published, which then stays so until the caller has committed: who
-- publishes it waits, and finds the follower. Waits for nobody itself, so that it can be in no ring of locks. Where
-- another transaction is at the event before, the answer is no; a claim asks again.
CREATE FUNCTION is_certainly_behind(of_order uuid, of_version integer) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  before record;
  flagged boolean;
BEGIN
  SELECT earlier.version, earlier.tx, earlier.available_at INTO before
    FROM outbox earlier
   WHERE earlier.order_id = of_order AND earlier.version < of_version
   ORDER BY earlier.version DESC LIMIT 1;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF before.available_at IS NOT NULL THEN
    PERFORM FROM outbox earlier
      WHERE earlier.order_id = of_order AND earlier.version = before.version AND earlier.available_at IS NOT NULL
        FOR SHARE SKIP LOCKED;
    RETURN FOUND;
  END IF;
  SELECT lease.has_followers INTO flagged FROM outbox_leases lease WHERE lease.tx = before.tx;
  -- The version before did not need that right, and may run as who has not got it.
  IF NOT FOUND OR NOT has_table_privilege('outbox_leases', 'UPDATE') THEN
    RETURN false;
  END IF;
  IF flagged THEN
    PERFORM FROM outbox_leases lease WHERE lease.tx = before.tx FOR KEY SHARE SKIP LOCKED;
    RETURN FOUND;
  END IF;
  PERFORM FROM outbox_leases lease WHERE lease.tx = before.tx FOR NO KEY UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE outbox_leases SET has_followers = true WHERE tx = before.tx;
    RETURN true;
  END IF;
  RETURN false;
END $$;

-- Takes the events that can be published, at most how_many, for lease_ms. Those that turn out to be behind another are taken
-- too, and told. By key and by index, whatever the planner thinks of a small outbox.
CREATE FUNCTION claim_events(how_many integer, lease_ms integer)
RETURNS TABLE ("orderId" uuid, "version" integer, "type" order_status, "at" timestamptz, "attempts" integer, "hasFailed" boolean, "isBehind" boolean,
               "customer" text, "currency" text, "total" bigint)
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
  SELECT claimed.order_id, claimed.version, claimed.type, claimed.created_at, claimed.attempts, claimed.last_error IS NOT NULL, claimed.is_behind,
         o.customer, o.currency, o.total
    FROM claimed JOIN orders o ON o.id = claimed.order_id;
END;

-- For claims that come upon such events: those that were there before this migration, and those whose insert met a lock.
CREATE FUNCTION hold_followers(ids uuid[], versions integer[]) RETURNS void
LANGUAGE sql SET enable_seqscan = off
BEGIN ATOMIC
  UPDATE outbox SET available_at = CASE WHEN is_certainly_behind(found.order_id, found.version) THEN 'infinity' ELSE now() + interval '100 ms' END
    FROM unnest(ids, versions) AS found(order_id, version)
   WHERE outbox.order_id = found.order_id AND outbox.version = found.version AND outbox.available_at IS NOT NULL AND outbox.dead_at IS NULL;
END;

CREATE FUNCTION outbox_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF is_certainly_behind(NEW.order_id, NEW.version) THEN
    NEW.available_at := 'infinity';
  END IF;
  RETURN NEW;
END $$;

-- In a trigger, so that it holds for what the version before writes, too. The first event of an order is behind none.
-- safe-because: it changes the time at which an event can be claimed, which mark_published and the end of a lease set back in both versions; it waits for no lock and raises nothing
CREATE TRIGGER outbox_inserted BEFORE INSERT ON "outbox" FOR EACH ROW WHEN (NEW.version > 1 AND NEW.available_at IS NOT NULL) EXECUTE FUNCTION outbox_inserted();

CREATE FUNCTION outbox_lease_ended() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
  PERFORM release_followers(array_agg(event.order_id), array_agg(event.version)) FROM outbox event WHERE event.tx = OLD.tx AND event.available_at IS NULL;
  RETURN NULL;
END $$;

-- safe-because: it does for the version before what that cannot know, at the end of its own statement, and raises nothing
CREATE TRIGGER outbox_lease_ended AFTER DELETE ON "outbox_leases" FOR EACH ROW WHEN (OLD.has_followers) EXECUTE FUNCTION outbox_lease_ended();

-- Marks events that were claimed as published, one of ids with the one of versions at its place, and lets those go that
-- follow them. By key, as before. Two statements: what the second one sees includes followers that were written while the
-- first one waited for them.
CREATE OR REPLACE FUNCTION mark_published(ids uuid[], versions integer[]) RETURNS void
LANGUAGE sql SET enable_seqscan = off
BEGIN ATOMIC
  UPDATE outbox SET available_at = NULL, last_error = NULL
    FROM unnest(ids, versions) AS done(order_id, version)
   WHERE outbox.order_id = done.order_id AND outbox.version = done.version;
  SELECT release_followers(ids, versions);
END;

-- Gives dead events up for good. Returns which of these were dead.
CREATE FUNCTION discard_events(ids uuid[], versions integer[]) RETURNS TABLE (order_id uuid, version integer)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
  discarded_ids uuid[];
  discarded_versions integer[];
BEGIN
  WITH discarded AS (
    UPDATE outbox event SET discarded_at = now(), dead_at = NULL, available_at = NULL
      FROM unnest(ids, versions) AS asked(order_id, version)
     WHERE event.order_id = asked.order_id AND event.version = asked.version AND event.dead_at IS NOT NULL
    RETURNING event.order_id, event.version
  )
  SELECT array_agg(discarded.order_id), array_agg(discarded.version) INTO discarded_ids, discarded_versions FROM discarded;
  PERFORM release_followers(discarded_ids, discarded_versions);
  RETURN QUERY SELECT * FROM unnest(discarded_ids, discarded_versions);
END $$;
