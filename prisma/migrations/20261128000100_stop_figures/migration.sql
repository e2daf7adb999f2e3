SET lock_timeout = '1s';

-- What a process says of itself while it lives, every few seconds: so one that was killed shows by its silence.
--
-- sessions: the process ids of its Postgres backends. Those that are there after its end were left behind.
-- leaked_*: what it still held when it had closed everything; leaked_sessions is looked up by those who live on.
-- outcome and counted_at: how the life ended, once it is in stop_totals.
ALTER TABLE "stops"
  ADD COLUMN "version" TEXT,
  ADD COLUMN "state" TEXT,
  ADD COLUMN "seen_at" TIMESTAMPTZ(3),
  ADD COLUMN "in_flight" INTEGER,
  ADD COLUMN "ops_url" TEXT,
  ADD COLUMN "deadline_ms" INTEGER,
  ADD COLUMN "sessions" INTEGER[],
  ADD COLUMN "leaked_connections" INTEGER,
  ADD COLUMN "leaked_sockets" INTEGER,
  ADD COLUMN "leaked_handles" INTEGER,
  ADD COLUMN "leaked_sessions" INTEGER,
  ADD COLUMN "outcome" TEXT,
  ADD COLUMN "counted_at" TIMESTAMPTZ(3);

-- What lives, what is still to be counted, and what was counted of late: all that is asked for again and again.
--
-- safe-because: the table has a row for each life of a process, some thousands at most, and only starts and stops write it
CREATE INDEX "stops_counted_at_idx" ON "stops"("counted_at");

-- Every stop there ever was, by how it ended and why it began. A row of stops is deleted one day; its figures stay here, for a
-- counter must never go down.
CREATE TABLE "stop_totals" (
    "outcome" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "stops" BIGINT NOT NULL,
    "draining_ms" BIGINT NOT NULL,
    "closing_ms" BIGINT NOT NULL,
    "app_close_ms" BIGINT NOT NULL,
    "completed" BIGINT NOT NULL,
    "refused" BIGINT NOT NULL,
    "unstarted" BIGINT NOT NULL,
    "abandoned" BIGINT NOT NULL,
    "cut" BIGINT NOT NULL,
    "work_abandoned" BIGINT NOT NULL,
    "leaked_connections" BIGINT NOT NULL,
    "leaked_sockets" BIGINT NOT NULL,
    "leaked_handles" BIGINT NOT NULL,
    "leaked_sessions" BIGINT NOT NULL,

    CONSTRAINT "stop_totals_pkey" PRIMARY KEY ("outcome", "reason")
);

-- Whoever may write stops may write this.
--
-- safe-because: it gives rights to a table of this migration, and takes none away
DO $$
DECLARE
  writer text;
BEGIN
  FOR writer IN
    SELECT DISTINCT CASE right_to.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(right_to.grantee)) END
      FROM (
        SELECT (aclexplode(relacl)).* FROM pg_class WHERE oid = 'stops'::regclass
        UNION ALL
        SELECT (aclexplode(attacl)).* FROM pg_attribute WHERE attrelid = 'stops'::regclass
      ) right_to
     WHERE right_to.privilege_type = 'INSERT'
  LOOP
    EXECUTE 'GRANT SELECT, INSERT, UPDATE ON stop_totals TO ' || writer;
  END LOOP;
END $$;

-- Whether a life ended without an end: silent for lost_ms, and past the deadline of its stop where that had begun. The version
-- before says nothing while it serves, so of that one only a stop can be missed; its deadline is taken to be the caller's.
CREATE FUNCTION is_lost(life stops, lost_ms bigint, caller_deadline_ms bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT life.finished_at IS NULL
     AND (life.seen_at IS NOT NULL OR life.stopping_at IS NOT NULL)
     AND coalesce(life.seen_at < now() - lost_ms * interval '1 ms', true)
     AND coalesce(life.stopping_at < now() - coalesce(life.deadline_ms, caller_deadline_ms) * interval '1 ms', true)
$$;

-- The number at a path of a report; 0 where there is none.
CREATE FUNCTION report_number(report jsonb, VARIADIC path text[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE jsonb_typeof(report #> path) WHEN 'number' THEN (report #> path)::numeric ELSE 0 END
$$;

-- Adds to stop_totals the lives that ended and are not in it yet, a thousand at most, and says of each how it ended. Beside any
-- number of other instances: each life is counted once. Returns how many they were.
--
-- settle_ms: an end must be so old, as its last figures come after it, and a backend outlives its process by a moment.
-- judges: whether the caller may tell by silence. All are silent where it was the database that was away.
-- known_reasons: all others count as 'other', so that there are never many.
CREATE FUNCTION count_stops(settle_ms bigint, lost_ms bigint, caller_deadline_ms bigint, judges boolean, known_reasons text[]) RETURNS integer LANGUAGE sql AS $$
  WITH due AS (
    SELECT life.id
      FROM stops life
     WHERE life.counted_at IS NULL
       AND (life.finished_at < now() - settle_ms * interval '1 ms' OR ((judges OR life.seen_at IS NULL) AND is_lost(life, lost_ms, caller_deadline_ms)))
     ORDER BY life.id
     LIMIT 1000
       FOR UPDATE SKIP LOCKED
  ), counted AS (
    UPDATE stops life
       SET counted_at = now(),
           outcome = CASE WHEN life.finished_at IS NULL THEN 'unfinished' WHEN life.exit_code = 0 THEN 'clean' WHEN life.exit_code = 20 THEN 'abandoned' ELSE 'failed' END,
           leaked_sessions = (
             SELECT count(*) FROM pg_stat_activity session
              WHERE session.pid = ANY (life.sessions) AND session.application_name = 'last-orders' AND session.backend_start < coalesce(life.finished_at, life.seen_at))
      FROM due
     WHERE life.id = due.id
    RETURNING life.*
  ), figures AS (
    SELECT life.outcome,
           CASE WHEN life.finished_at IS NULL THEN CASE WHEN life.stopping_at IS NULL THEN 'killed-serving' ELSE 'killed-stopping' END
                WHEN life.reason = ANY (known_reasons) THEN life.reason ELSE 'other' END AS reason,
           life.report,
           report_number(life.report, 'phases', 'draining') AS draining,
           report_number(life.report, 'phases', 'closing') AS closing,
           greatest(report_number(life.report, 'elapsed') - app_close.ms, report_number(life.report, 'phases', 'closing')) AS closed,
           app_close.ms AS app_close_ms,
           life.leaked_connections, life.leaked_sockets, life.leaked_handles, life.leaked_sessions
      FROM counted life
     CROSS JOIN LATERAL (
       SELECT coalesce(sum(report_number(hook, 'duration')), 0) AS ms
         FROM jsonb_array_elements(CASE jsonb_typeof(life.report -> 'hooks') WHEN 'array' THEN life.report -> 'hooks' ELSE '[]' END) hook
        WHERE hook ->> 'name' = 'app.close'
     ) app_close
  ), added AS (
    -- In this order, so that two callers never wait for each other.
    INSERT INTO stop_totals AS total
    SELECT outcome, reason, count(*), sum(closing - draining), sum(closed - closing), sum(app_close_ms),
           sum(report_number(report, 'requests', 'completed', 'count')),
           sum(report_number(report, 'requests', 'refused', 'count')),
           sum(report_number(report, 'requests', 'unstarted', 'count')),
           sum(report_number(report, 'requests', 'abandoned', 'count')),
           sum(report_number(report, 'requests', 'stalled', 'count')),
           sum(CASE jsonb_typeof(report #> '{tracked,abandoned}') WHEN 'array' THEN jsonb_array_length(report #> '{tracked,abandoned}') ELSE 0 END),
           coalesce(sum(leaked_connections), 0), coalesce(sum(leaked_sockets), 0), coalesce(sum(leaked_handles), 0), coalesce(sum(leaked_sessions), 0)
      FROM figures
     GROUP BY outcome, reason
     ORDER BY outcome, reason
    ON CONFLICT (outcome, reason) DO UPDATE SET
      stops = total.stops + excluded.stops,
      draining_ms = total.draining_ms + excluded.draining_ms,
      closing_ms = total.closing_ms + excluded.closing_ms,
      app_close_ms = total.app_close_ms + excluded.app_close_ms,
      completed = total.completed + excluded.completed,
      refused = total.refused + excluded.refused,
      unstarted = total.unstarted + excluded.unstarted,
      abandoned = total.abandoned + excluded.abandoned,
      cut = total.cut + excluded.cut,
      work_abandoned = total.work_abandoned + excluded.work_abandoned,
      leaked_connections = total.leaked_connections + excluded.leaked_connections,
      leaked_sockets = total.leaked_sockets + excluded.leaked_sockets,
      leaked_handles = total.leaked_handles + excluded.leaked_handles,
      leaked_sessions = total.leaked_sessions + excluded.leaked_sessions
  )
  SELECT count(*)::integer FROM counted
$$;
