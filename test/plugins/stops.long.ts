import Fastify, { type FastifyInstance } from 'fastify'
import drain from 'fastify-drain'
import pg from 'pg'
import t, { type Test } from 'tap'
import { loadConfig } from '../../config.ts'
import database from '../../plugins/database.ts'
import errors from '../../plugins/errors.ts'
import metrics from '../../plugins/metrics.ts'
import requestTelemetry from '../../plugins/request-telemetry.ts'
import settings from '../../plugins/settings.ts'
import stops from '../../plugins/stops.ts'
import { createTestDatabase } from '../postgres.ts'
import { Retention } from '../../orders/retention.ts'
import { Hearing } from '../../plugins/stops.ts'
import { countStops } from '../../prisma/count-stops.ts'
import { startApp, type RunningApp } from '../app.ts'
import { valueOf, withFigures } from '../exposition.ts'
import type { DrainReport } from 'fastify-drain'

/** A stop counts as soon as it has ended. */
const bounds = { endedForMs: 0, deadlineMs: 25_000 }

t.test('a stop that the database cannot record is as clean as any other', async t => {
  const { app, sql } = await startApp(t)
  await sql.query('ALTER TABLE stops RENAME TO elsewhere')
  const { exitCode, hooks } = await app.drain.start('test')
  t.equal(exitCode, 0, JSON.stringify(hooks))
})

t.test('a start waits for the table of stops while it is locked, as in a roll-out', async t => {
  const { app, sql } = await startWhereLocked(t, 60_000)
  await sql.query('BEGIN')
  await sql.query('LOCK TABLE stops')
  const ready = app.ready()
  for (const waits of [true, false]) while ((await sql.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")).rowCount !== (waits ? 1 : 0));
  await sql.query('ROLLBACK')
  await ready
  t.equal((await sql.query('SELECT FROM stops')).rowCount, 1)
})

t.test('a start that cannot be recorded in time fails, and names the hook and the table', async t => {
  const { app, sql } = await startWhereLocked(t, 300)
  await sql.query('BEGIN')
  await sql.query('LOCK TABLE stops')
  await t.rejects(async () => await app.ready(), { message: /table stops \(the hook onReady of the plugin stops, which has 0\.3 s\).*lock timeout.*Nothing is served\./ })
  await sql.query('ROLLBACK')
})

t.test('a start fails without retries if the table of stops is missing', async t => {
  const { app, sql } = await startWhereLocked(t, 60_000)
  await sql.query('ALTER TABLE stops RENAME TO elsewhere')
  await t.rejects(async () => await app.ready(), { message: /onReady of the plugin stops.*"stops" does not exist/ })
})

/** An app with the plugin that records its start, on a database of its own, before `ready()`. Its statements wait 0.1 s for a lock. */
async function startWhereLocked (t: Test, startMs: number): Promise<{ app: FastifyInstance, sql: pg.Client }> {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url, application_name: 'test' })
  await sql.connect()
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    await sql.end()
  })
  await app.register(errors)
  await app.register(requestTelemetry)
  await app.register(metrics, { build: { version: '0.0.0', revision: undefined } })
  await app.register(settings, { config: loadConfig({}), running: undefined })
  await app.register(database, { url, pool: 2, requestTimeoutMs: 500 })
  await app.register(stops, { deadlineMs: 1_000, version: '0.0.0', databaseUrl: url, startMs })
  await app.register(drain, { exit: false })
  return { app, sql }
}

t.test('the stops of the last hour are counted by their outcome', async t => {
  const { app } = await startApp(t)
  t.same(await app.stops.recent(), { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }, 'every outcome is there, also at 0; this life has not stopped')

  const minutesAgo = (minutes: number): Date => new Date(Date.now() - minutes * 60_000)
  const life = async (data: { stoppingAt?: Date, finishedAt?: Date, exitCode?: number }): Promise<void> => {
    await app.prisma.stop.create({ data: { id: crypto.randomUUID(), instance: 'another', pid: 1, startedAt: minutesAgo(600), ...data } })
  }
  await life({})
  await life({ stoppingAt: new Date() })
  t.same(await app.stops.recent(), { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }, 'a life that runs, and one whose deadline is not over, do not count')

  await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode: 0 })
  await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode: 20 })
  for (const exitCode of [1, 21, 22]) await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode })
  await life({ stoppingAt: minutesAgo(2) })
  t.same(await app.stops.recent(), { clean: 1, abandoned: 1, failed: 3, unfinished: 1 })

  await life({ stoppingAt: minutesAgo(62), finishedAt: minutesAgo(61), exitCode: 20 })
  await life({ stoppingAt: minutesAgo(61) })
  t.same(await app.stops.recent(), { clean: 1, abandoned: 1, failed: 3, unfinished: 1 }, 'older stops do not count')

  const metrics = await withFigures(app)
  t.match(metrics, /^stops_recent\{outcome="clean"\} 1$/m)
  t.match(metrics, /^stops_recent\{outcome="abandoned"\} 1$/m)
  t.match(metrics, /^stops_recent\{outcome="failed"\} 3$/m)
  t.match(metrics, /^stops_recent\{outcome="unfinished"\} 1$/m)
})

t.test('a living instance counts the stop of another: its outcome, phases and requests, as in its report', async t => {
  const living = await startApp(t)
  const stopping = await startApp(t, { databaseUrl: living.databaseUrl, drain: { lameDuck: { min: 30, quiet: 0, max: 30 } } })
  await stopping.ask('GET', '/livez')
  await stopping.app.drain.start('SIGTERM')
  const { rows: [row] } = await living.sql.query<{ report: DrainReport }>('SELECT report FROM stops WHERE finished_at IS NOT NULL')
  if (row === undefined) throw new Error('The stop was not written.')
  await countStops(living.app.prisma, { ...bounds, judges: false })
  await countStops(living.app.prisma, { ...bounds, judges: false })

  const metrics = await withFigures(living.app)
  const { report: { phases, elapsed, hooks, requests } } = row
  const closed = hooks.find(({ name }) => name === 'app.close')?.duration ?? NaN
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'clean', reason: 'SIGTERM' }), 1, 'it is counted once')
  t.equal(valueOf(metrics, 'stops_total'), 1)
  t.ok((phases.closing ?? 0) >= 30)
  t.equal(valueOf(metrics, 'stops_seconds_total', { phase: 'draining' }), ((phases.closing ?? NaN) - (phases.draining ?? NaN)) / 1_000)
  t.equal(valueOf(metrics, 'stops_seconds_total', { phase: 'app_close' }), closed / 1_000)
  t.equal(valueOf(metrics, 'stops_seconds_total', { phase: 'closing' }), (elapsed - closed - (phases.closing ?? NaN)) / 1_000)
  t.equal(valueOf(metrics, 'stops_requests_total', { fate: 'completed' }), requests.completed.count)
  t.equal(valueOf(metrics, 'stops_longest_seconds'), elapsed / 1_000)
  t.equal(valueOf(metrics, 'stops_deadline_share_max'), elapsed / 25_000)
})

t.test('a silent process counts as killed, serving or stopping, unless the instance that judges may have missed its beats', async t => {
  const { app, sql } = await startApp(t)
  await sql.query(`INSERT INTO stops (id, instance, pid, seen_at, stopping_at, deadline_ms) VALUES
    (gen_random_uuid(), 'killed as it served', 1, now() - interval '31 s', NULL, 1000),
    (gen_random_uuid(), 'killed as it stopped', 1, now() - interval '32 s', now() - interval '31 s', 1000),
    (gen_random_uuid(), 'has its deadline still', 1, now() - interval '32 s', now() - interval '31 s', 60000),
    (gen_random_uuid(), 'missed some beats', 1, now() - interval '29 s', NULL, 1000)`)
  await countStops(app.prisma, { ...bounds, judges: false })
  t.same((await sql.query('SELECT FROM stop_totals')).rowCount, 0, 'an instance that may have missed beats judges nobody')
  await countStops(app.prisma, { ...bounds, judges: true })
  const metrics = await withFigures(app)
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'unfinished', reason: 'killed-serving' }), 1)
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'unfinished', reason: 'killed-stopping' }), 1)
  t.equal(valueOf(metrics, 'stops_total'), 2)
})

t.test('an instance judges by silence again 30 s after a beat of its own failed, and not before', async t => {
  const hearing = new Hearing()
  const beats = (from: number, to: number): void => { for (let at = from; at <= to; at += 5_000) hearing.heard(at) }
  beats(0, 30_000)
  t.equal(hearing.judges(30_000), true)
  hearing.missed()
  beats(36_000, 61_000)
  t.equal(hearing.judges(65_000), false)
  t.equal(hearing.judges(66_000), true)
  beats(66_000, 66_000)
  beats(77_000, 102_000)
  t.equal(hearing.judges(102_000), false, 'a pause counts as a beat that failed')
})

t.test('a process that was counted as killed and lives is counted as another stop when it stops', async t => {
  const { app, sql } = await startApp(t)
  await sql.query("UPDATE stops SET seen_at = now() - interval '1 minute'")
  await countStops(app.prisma, { ...bounds, judges: true })
  await app.drain.start('SIGTERM')
  t.match((await sql.query('SELECT outcome, exit_code FROM stops ORDER BY id')).rows, [{ outcome: 'unfinished', exit_code: null }, { outcome: null, exit_code: 0 }])
})

t.test('a beat and the beginning of a stop that both find their row counted make only one new row', async t => {
  const { app, sql } = await startApp(t)
  await sql.query("UPDATE stops SET seen_at = now() - interval '1 minute'")
  await countStops(app.prisma, { ...bounds, judges: true })
  await sql.query(`CREATE FUNCTION held () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
    CREATE TRIGGER held BEFORE INSERT ON stops FOR EACH ROW EXECUTE FUNCTION held();
    SELECT pg_advisory_lock(1)`)
  const waiting = async () => (await sql.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rowCount
  app.stops.isWatchedAt(app)
  while (await waiting() !== 1);
  const stopped = app.drain.start('SIGTERM')
  while (await waiting() !== 2);
  await sql.query('SELECT pg_advisory_unlock(1)')
  await stopped
  t.match((await sql.query('SELECT outcome, stopping_at, exit_code FROM stops ORDER BY id')).rows, [{ outcome: 'unfinished' }, { outcome: null, stopping_at: Date, exit_code: 0 }])
  t.equal((await sql.query('SELECT FROM stops')).rowCount, 2)
})

t.test('a heartbeat that hangs in the database does not fail the stop', async t => {
  const { app, sql } = await startApp(t, { drain: { deadline: 4_000 } })
  await sql.query(`CREATE SEQUENCE beats;
    CREATE FUNCTION hang () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF current_query() LIKE 'UPDATE%' THEN IF nextval('beats') = 1 THEN PERFORM pg_sleep(60); END IF; END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER hang BEFORE UPDATE ON stops EXECUTE FUNCTION hang()`)
  const hanging = async () => (await sql.query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")).rowCount
  t.teardown(() => sql.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"))
  app.stops.isWatchedAt(app)
  while (await hanging() === 0);
  const { exitCode, hooks } = await app.drain.start('SIGTERM')
  t.equal(exitCode, 0, JSON.stringify(hooks))
  t.match((await sql.query('SELECT finished_at, exit_code FROM stops')).rows, [{ finished_at: Date, exit_code: 0 }])
})

t.test('a scrape that is under way when the database closes does not open it again', async t => {
  const { app, sql } = await startApp(t)
  await sql.query(`CREATE FUNCTION held () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
    CREATE TRIGGER held BEFORE INSERT ON stop_totals EXECUTE FUNCTION held();
    SELECT pg_advisory_lock(1)`)
  const totals = app.stops.totals().then(() => 'read', (error: Error) => error.message)
  while ((await sql.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rowCount === 0);
  let unlocked: Promise<unknown> | undefined
  app.drain.on('closing', () => { unlocked = sql.query('SELECT pg_advisory_unlock(1)') })
  t.equal((await app.drain.start('SIGTERM')).exitCode, 0)
  await unlocked
  t.match(await totals, /not read/)
  while ((await sql.query("SELECT FROM pg_stat_activity WHERE application_name = 'last-orders' AND datname = current_database()")).rowCount !== 0);
})

t.test('the totals of stops never fall, although retention deletes the stops', async t => {
  const { app, sql } = await startApp(t)
  await sql.query(`INSERT INTO stops (id, instance, pid, started_at, seen_at, finished_at, exit_code, reason)
    SELECT gen_random_uuid(), 'old', 1, now() - interval '2 days', now() - interval '1 day', CASE WHEN n < 3 THEN now() - interval '1 day' END, 20, 'SIGTERM' FROM generate_series(1, 3) n`)
  const retention = new Retention({
    prisma: app.prisma,
    outboxMs: 0,
    stopsMs: 3_600_000,
    log: { warn: (details, message) => t.fail(message, details), debug () {} }
  })
  const running = retention.run()
  while ((await sql.query("SELECT FROM stops WHERE instance = 'old'")).rowCount !== 0);
  retention.stop()
  await running
  const metrics = await withFigures(app)
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'abandoned', reason: 'SIGTERM' }), 2)
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'unfinished' }), 1)
})

t.test('the row of a living process has its version, state, requests in flight and deadline', async t => {
  const { app, sql } = await startApp(t, { settings: { REVISION: '3c52eb7' } })
  const rows = async () => (await sql.query<{ state: string, seen_at: Date, stopping_at: Date | null }>('SELECT * FROM stops')).rows
  t.match(await rows(), [{ version: '0.1.0+3c52eb7', deadline_ms: 25_000, seen_at: Date, stopping_at: null, ops_url: null }])
  const draining = Promise.withResolvers<void>()
  app.drain.on('draining', () => draining.promise)
  const stopped = app.drain.start('test')
  while ((await rows())[0]?.stopping_at === null);
  t.match(await rows(), [{ state: 'draining', in_flight: 0 }])
  draining.resolve()
  await stopped
  t.match(await rows(), [{ finished_at: Date, exit_code: 0 }])
})

t.test('the timers, sockets and sessions of Postgres that a stop leaves behind are counted', async t => {
  const leaksOf = async ({ app, sql }: RunningApp) => {
    await app.drain.start('test')
    return (await sql.query<{ connections: number, sockets: number, handles: number }>('SELECT leaked_connections AS connections, leaked_sockets AS sockets, leaked_handles AS handles FROM stops ORDER BY id DESC LIMIT 1')).rows[0]
  }
  const first = await startApp(t)
  const { databaseUrl } = first
  const clean = await leaksOf(first)
  t.match(clean, { connections: 0, sockets: 0 })

  const leaking = await startApp(t, { databaseUrl })
  const timer = setInterval(() => {}, 60_000)
  t.teardown(() => clearInterval(timer))
  // As a connection that the pool forgot.
  const forgotten = new pg.Client({ connectionString: databaseUrl, application_name: 'last-orders' })
  await forgotten.connect()
  t.teardown(() => forgotten.end())
  const { rows: [session] } = await forgotten.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  t.same(await leaksOf(leaking), { connections: 0, sockets: 1, handles: (clean?.handles ?? NaN) + 1 })

  const living = await startApp(t, { databaseUrl })
  await living.sql.query('UPDATE stops SET sessions = sessions || $1::integer WHERE leaked_sockets = 1', [session?.pid])
  await countStops(living.app.prisma, { ...bounds, judges: false })
  const metrics = await withFigures(living.app)
  for (const kind of ['sockets', 'sessions']) t.equal(valueOf(metrics, 'stops_leaks_total', { kind }), 1, kind)
})
