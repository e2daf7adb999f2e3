import { createHash } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate, MigrationError, settle } from '../../prisma/migrate.ts'
import { runsInOneTransaction } from '../../prisma/migration-files.ts'
import { createTestDatabase } from '../postgres.ts'
import { start } from './program.ts'

/** Any number that no program uses: what a test holds to keep a migration from going on. */
const GATE = 42

const FIRST = 'CREATE TABLE "drinks" ("id" BIGINT PRIMARY KEY, "name" TEXT NOT NULL);'

t.test('the migrations of a folder are applied in order, and only once', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260102_fill': 'INSERT INTO drinks VALUES (1, \'ale\');',
    '20260101_drinks': FIRST
  })
  t.same(await migrate({ url, directory }), { applied: ['20260101_drinks', '20260102_fill'] })
  t.same(await migrate({ url, directory }), { applied: [] })
  t.same(await query('select name from drinks'), [{ name: 'ale' }])
})

t.test('the records are those that `prisma migrate deploy` leaves', async t => {
  const { url, directory, query } = await prepare(t, { '20260101_drinks': FIRST })
  await migrate({ url, directory })
  const [record, ...more] = await query('select * from _prisma_migrations')
  t.same(more, [])
  t.match(record, {
    id: /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    migration_name: '20260101_drinks',
    checksum: createHash('sha256').update(readFileSync(join(directory, '20260101_drinks/migration.sql'))).digest('hex'),
    logs: null,
    rolled_back_at: null,
    started_at: Date,
    finished_at: Date,
    applied_steps_count: 1
  })
  t.same(await query(`
    select column_name, data_type, character_maximum_length as length, is_nullable as nullable, column_default as default
    from information_schema.columns where table_name = '_prisma_migrations' order by ordinal_position`), [
    { column_name: 'id', data_type: 'character varying', length: 36, nullable: 'NO', default: null },
    { column_name: 'checksum', data_type: 'character varying', length: 64, nullable: 'NO', default: null },
    { column_name: 'finished_at', data_type: 'timestamp with time zone', length: null, nullable: 'YES', default: null },
    { column_name: 'migration_name', data_type: 'character varying', length: 255, nullable: 'NO', default: null },
    { column_name: 'logs', data_type: 'text', length: null, nullable: 'YES', default: null },
    { column_name: 'rolled_back_at', data_type: 'timestamp with time zone', length: null, nullable: 'YES', default: null },
    { column_name: 'started_at', data_type: 'timestamp with time zone', length: null, nullable: 'NO', default: 'now()' },
    { column_name: 'applied_steps_count', data_type: 'integer', length: null, nullable: 'NO', default: '0' }
  ])
})

t.test('a function with semicolons in its body, comments and strings is one script', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_last_orders': `
      -- One; two; three.
      CREATE FUNCTION bell(times integer) RETURNS text LANGUAGE plpgsql AS $$
      DECLARE
        rung text := '';
      BEGIN
        FOR i IN 1..times LOOP
          rung := rung || 'ding; ';
        END LOOP;
        RETURN rung;
      END $$;
      CREATE TABLE "rings" ("sound" TEXT DEFAULT 'ding;'); /* ; */
      INSERT INTO rings DEFAULT VALUES -- the last needs no semicolon`
  })
  await migrate({ url, directory })
  t.same(await query('select bell(2), sound from rings'), [{ bell: 'ding; ding; ', sound: 'ding;' }])
})

t.test('of several processes that migrate at once one works, and the others wait and find it done', async t => {
  const { url, directory, query, hold } = await prepare(t, { '20260101_drinks': FIRST, '20260102_gate': gated('') })
  const gate = await hold()
  const first = start(t, 'migrator.ts', [url, directory])
  await gate.reached()
  const others = [start(t, 'migrator.ts', [url, directory]), start(t, 'migrator.ts', [url, directory])]
  await Promise.all(others.map(other => other.line(/another process migrates/)))
  await gate.open()
  t.match(await first.exit, { code: 0, output: 'applied ["20260101_drinks","20260102_gate"]' })
  for (const other of others) t.match(await other.exit, { code: 0, output: 'applied []' })
  t.same(await query('select count(*)::int as records from _prisma_migrations'), [{ records: 2 }])
})

t.test('a migrator killed in the middle, whose script Postgres goes on to commit, is found to be done', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': FIRST,
    '20260102_round': gated("INSERT INTO drinks VALUES (1, 'ale');")
  })
  const gate = await hold()
  const killed = start(t, 'migrator.ts', [url, directory])
  await gate.reached()
  killed.kill('SIGKILL')
  await killed.exit

  const next = start(t, 'migrator.ts', [url, directory])
  await next.line(/another process migrates/)
  await gate.open()
  t.match(await next.exit, { code: 0, output: 'applied []' })
  t.same(await query('select name from drinks'), [{ name: 'ale' }], 'once')
  t.match(await query("select logs, finished_at, rolled_back_at from _prisma_migrations where migration_name = '20260102_round'"),
    [{ logs: null, finished_at: Date, rolled_back_at: null }])
})

t.test('a migrator killed in the middle, whose script Postgres takes back, is made up for', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': FIRST,
    '20260102_round': `INSERT INTO drinks VALUES (1, 'ale'); ${gated('')}`
  })
  const gate = await hold()
  const killed = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  killed.kill('SIGKILL')
  await killed.exit
  await query('select pg_terminate_backend($1)', [backend])
  await gate.open()

  const log: string[] = []
  t.same(await migrate({ url, directory, log: line => log.push(line) }), { applied: ['20260102_round'] })
  t.match(log.join('\n'), /20260102_round was interrupted and Postgres took it back/)
  t.same(await query('select name from drinks'), [{ name: 'ale' }])
  t.match(await query("select * from _prisma_migrations where migration_name = '20260102_round' order by started_at"), [
    { finished_at: null, rolled_back_at: Date },
    { finished_at: Date, rolled_back_at: null, logs: null, applied_steps_count: 1 }
  ])
})

t.test('a killed migration with transactions of its own is left to a person, who can say how far it came', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': `BEGIN; ${FIRST} COMMIT; ${gated('')}`,
    '20260102_fill': 'INSERT INTO drinks VALUES (1, \'ale\');'
  })
  const gate = await hold()
  const killed = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  killed.kill('SIGKILL')
  await killed.exit
  await query('select pg_terminate_backend($1)', [backend])
  await gate.open()

  await t.rejects(migrate({ url, directory }), {
    code: 'unknown-outcome',
    message: /20260101_drinks.*nothing more was applied.*--applied 20260101_drinks.*--rolled-back 20260101_drinks/
  })
  await settle({ url, directory, name: '20260101_drinks', as: 'applied' })
  t.same(await migrate({ url, directory }), { applied: ['20260102_fill'] })
})

t.test('a migrator that loses its session stops there, and the next one goes on', async t => {
  const { url, directory, query, hold } = await prepare(t, { '20260101_drinks': FIRST, '20260102_gate': gated('') })
  const gate = await hold()
  const cut = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  await query('select pg_terminate_backend($1)', [backend])
  t.match(await cut.exit, { code: 1, output: /20260102_gate was cut off: .*The next start finds out/ })
  await gate.open()
  t.same(await migrate({ url, directory }), { applied: ['20260102_gate'] })
})

t.test('a record that another tool left unfinished is left to a person, also where the script is one transaction', async t => {
  const { url, directory, query } = await prepare(t, { '20260101_drinks': FIRST })
  await migrate({ url, directory })
  await query('update _prisma_migrations set finished_at = null, applied_steps_count = 0')
  await t.rejects(migrate({ url, directory }), { code: 'unknown-outcome' })
  await query('drop table drinks')
  await settle({ url, directory, name: '20260101_drinks', as: 'rolled back' })
  t.same(await migrate({ url, directory }), { applied: ['20260101_drinks'] })
})

t.test('a migration that fails leaves nothing of itself, and is applied once it is corrected', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': `${FIRST}\nINSERT INTO drinks VALUES (1);\n`,
    '20260102_fill': 'INSERT INTO drinks VALUES (2, \'stout\');'
  })
  await t.rejects(migrate({ url, directory }), {
    name: 'MigrationError',
    code: 'failed',
    message: /^A migration failed: 20260101_drinks, null value in column "name".*SQLSTATE 23502.*took all of it back/
  })
  t.same(await query("select to_regclass('drinks') as it"), [{ it: null }])

  writeFileSync(join(directory, '20260101_drinks/migration.sql'), FIRST)
  t.same(await migrate({ url, directory }), { applied: ['20260101_drinks', '20260102_fill'] })
})

t.test('a syntax error is told with its line', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': `${FIRST}\nCREATE TABEL x ();\n` })
  await t.rejects(migrate({ url, directory }), { message: /syntax error at or near "TABEL" \(SQLSTATE 42601, line 2\)/ })
})

t.test('a migration that was changed after it was applied is told of and not run again', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': FIRST })
  await migrate({ url, directory })
  writeFileSync(join(directory, '20260101_drinks/migration.sql'), `-- new\n${FIRST}`)
  const log: string[] = []
  t.same(await migrate({ url, directory, log: line => log.push(line) }), { applied: [] })
  t.same(log, ['20260101_drinks has been changed since it was applied here'])
})

t.test('a database that was migrated by a newer version is served', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': FIRST, '20260102_newer': 'SELECT 1;' })
  await migrate({ url, directory })
  rmSync(join(directory, '20260102_newer'), { recursive: true })
  t.same(await migrate({ url, directory }), { applied: [] })
})

t.test('a process that found nothing to do has not loaded the engine, and one that migrated ends at once', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': FIRST })
  const nodeOptions = ['--import', `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => {
      if (url.includes('schema-engine-wasm')) console.log('the engine is loaded')
      return next(url, context)
    } })`)}`]
  const first = start(t, 'migrator.ts', [url, directory], { nodeOptions })
  await first.line(/^applied/)
  // The engine's own timer would keep the process for 10 s.
  const ended = await Promise.race([first.exit, delay(5_000, undefined, { ref: false })])
  t.match(ended, { code: 0, output: /the engine is loaded/ })

  const { code, output } = await start(t, 'migrator.ts', [url, directory], { nodeOptions }).exit
  t.same({ code, output }, { code: 0, output: 'applied []\n' })
})

t.test('a database that cannot be reached is one clear message, without the password', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))

  const error = await migrate({ url: `postgresql://me:hunter2@127.0.0.1:${port}/bar` }).catch((error: unknown) => error)
  t.ok(error instanceof MigrationError)
  t.match(error, { code: 'unreachable', message: /cannot be reached.*ECONNREFUSED.*Nothing was applied/ })
  t.notMatch((error as Error).message, /hunter2/)
})

t.test('npm run db:migrate says so in one line and fails', async t => {
  const { code, output } = await start(t, '../../prisma/migrate.ts', [], {
    env: { ...process.env, DATABASE_URL: 'postgresql://me@127.0.0.1:1/bar' }
  }).exit
  t.equal(code, 1)
  t.match(output, /^The database at \S+ cannot be reached [^\n]+\n$/)
})

t.test('a database that does not exist is one clear message', async t => {
  const { url } = await prepare(t, {})
  await t.rejects(migrate({ url: url.replace(/\/test_\w+/, '/no_such') }), { code: 'refused', message: /"no_such" does not exist/ })
})

t.test('a folder without migrations is one clear message', async t => {
  await t.rejects(migrate({ url: 'postgresql://127.0.0.1:1/bar', directory: '/nowhere' }), { code: 'bad-folder' })
})

t.test('a script is taken for one transaction only where that is sure', async t => {
  for (const one of [
    'create table a (x int); insert into a values (1)',
    "insert into a values ('; begin; commit;')",
    "select E'it\\'s; commit;'",
    'select $$ begin; commit; $$, $x$ ; rollback; $$ $x$',
    '-- begin;\ncreate table "commit;" ();',
    '/* ; commit; */ select 1',
    'create function f() returns int language sql as $f$ select 1; $f$; create index on a (x)'
  ]) t.equal(runsInOneTransaction(one), true, one)
  for (const several of [
    'begin; create table a (); commit;',
    '  START TRANSACTION; select 1; end',
    '-- now\nBEGIN; select 1; COMMIT',
    '-- now\nvacuum a',
    'create index concurrently i on a (x)',
    'drop index CONCURRENTLY i',
    'vacuum a',
    'alter system set fsync = off',
    'call p()',
    'do $$ begin commit; end $$',
    '/* /* */ */ vacuum a',
    'create function f() returns int language sql begin atomic select 1; end'
  ]) t.equal(runsInOneTransaction(several), false, several)
})

/** A script that stops where it is until the test opens the gate. */
function gated (rest: string): string {
  return `SELECT pg_advisory_xact_lock(${GATE}); ${rest}`
}

async function prepare (t: Test, scripts: Record<string, string>) {
  const { url } = await createTestDatabase(t, { empty: true })
  const directory = t.testdir(Object.fromEntries(
    Object.entries(scripts).map(([name, script]) => [name, { 'migration.sql': script }])))
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())

  async function query (sql: string, values: unknown[] = []): Promise<Array<Record<string, unknown>>> {
    return (await client.query<Record<string, unknown>>(sql, values)).rows
  }

  async function hold () {
    await query('select pg_advisory_lock($1)', [GATE])
    return {
      open: () => query('select pg_advisory_unlock($1)', [GATE]),
      /** Resolves when a session waits at the gate. */
      reached: async (): Promise<{ backend: number }> => {
        const deadline = Date.now() + 20_000
        for (;;) {
          if (Date.now() > deadline) throw new Error('nobody came to the gate')
          const [waiting] = await query('select pid from pg_locks where objid = $1 and not granted', [GATE])
          if (waiting !== undefined) return { backend: Number(waiting.pid) }
          await delay(10)
        }
      }
    }
  }

  return { url, directory, query, hold }
}
