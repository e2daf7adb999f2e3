SET lock_timeout = '1s';

-- As before, but that one life of a server never has two epochs. What is the latest epoch and what is the last event were two looks:
-- between them another transaction could begin the epoch, write into it and commit, and the next was begun for the same life. Streams
-- then went on from the second, and missed what others were still writing into the first.
CREATE OR REPLACE FUNCTION current_epoch() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  latest record;
BEGIN
  LOOP
    SELECT e.epoch, e.server_started_at = pg_postmaster_start_time() AND e.file = pg_relation_filepath(e.tableoid) AS is_here
      INTO latest
      FROM epochs e ORDER BY e.epoch DESC LIMIT 1;
    IF latest.is_here OR latest.epoch = 32767 THEN
      RETURN latest.epoch;
    END IF;
    INSERT INTO epochs (epoch, server_started_at, file, began, horizon)
    SELECT following.epoch, pg_postmaster_start_time(), pg_relation_filepath('epochs'), extract(epoch FROM clock_timestamp()) * 1000000, following.epoch::bigint << 48
      -- Also where the events were restored and this table was not.
      FROM (SELECT coalesce(greatest(latest.epoch, (SELECT max(event.tx) >> 48 FROM outbox event)), -1) + 1 AS epoch) following
     -- One look at both: who sees an event of an epoch sees the epoch, and the next turn returns it.
     WHERE NOT EXISTS (SELECT FROM epochs e WHERE e.epoch > coalesce(latest.epoch, -1))
    -- Waits for a twin that begins it too; the next turn sees the twin's row.
    ON CONFLICT (epoch) DO NOTHING;
  END LOOP;
END $$;
