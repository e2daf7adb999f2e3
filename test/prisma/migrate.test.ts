import { createHash } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { DescribedDatabase } from '../../prisma/described-database.ts'
import { migrate, MigrationError, settle } from '../../prisma/migrate.ts'
import { migrationsDirectory, readMigrations } from '../../prisma/migration-files.ts'
import { openSchemaEngine, type MigrationList, type SchemaEngine } from '../../prisma/schema-engine.ts'
import { gateLock, prepare, thingsIn } from './migrations.ts'
import { start } from './program.ts'

const firstScript = 'CREATE TABLE "drinks" ("id" BIGINT PRIMARY KEY, "name" TEXT NOT NULL);'

t.test('the migrator applies the migrations of a folder in order, and only once', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260102_fill': 'INSERT INTO drinks VALUES (1, \'ale\');',
    '20260101_drinks': firstScript
  })
  t.same(await migrate({ url, directory }), { applied: ['20260101_drinks', '20260102_fill'] })
  t.same(await migrate({ url, directory }), { applied: [] })
  t.same(await query('SELECT name FROM drinks'), [{ name: 'ale' }])
})

t.test('the migrator leaves the records that `prisma migrate deploy` would leave', async t => {
  const { url, directory, query } = await prepare(t, { '20260101_drinks': firstScript })
  await migrate({ url, directory })
  const [record, ...more] = await query('SELECT * FROM _prisma_migrations')
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
    SELECT column_name, data_type, character_maximum_length AS length, is_nullable AS nullable, column_default AS default
    FROM information_schema.columns WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position`), [
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

t.test('the migrator runs a script with semicolons in functions, comments and strings as a whole', async t => {
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
  t.same(await query('SELECT bell(2), sound FROM rings'), [{ bell: 'ding; ding; ', sound: 'ding;' }])
})

t.test('one of several migrators applies the migrations, and the others wait and apply none', async t => {
  const { url, directory, query, hold } = await prepare(t, { '20260101_drinks': firstScript, '20260102_gate': gated('') })
  const gate = await hold()
  const first = start(t, 'migrator.ts', [url, directory])
  await gate.reached()
  const others = [start(t, 'migrator.ts', [url, directory]), start(t, 'migrator.ts', [url, directory])]
  await Promise.all(others.map(other => other.line(/another process migrates/)))
  await gate.open()
  t.match(await first.exit, { code: 0, output: 'applied ["20260101_drinks","20260102_gate"]' })
  for (const other of others) t.match(await other.exit, { code: 0, output: 'applied []' })
  t.same(await query('SELECT count(*)::int AS records FROM _prisma_migrations'), [{ records: 2 }])
})

t.test("a migrator waits for Prisma's own engine", async t => {
  const { url, directory, query } = await prepare(t, { '20260101_drinks': firstScript })
  await query('SELECT pg_advisory_lock(72707369)')
  const migrator = start(t, 'migrator.ts', [url, directory])
  await migrator.line(/another process migrates/)
  t.same(await query("SELECT to_regclass('_prisma_migrations') AS it"), [{ it: null }])
  await query('SELECT pg_advisory_unlock(72707369)')
  t.match(await migrator.exit, { code: 0, output: 'applied ["20260101_drinks"]' })
})

t.test('the next migrator finds a migration applied if Postgres committed the script of a killed one', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': firstScript,
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
  t.same(await query('SELECT name FROM drinks'), [{ name: 'ale' }], 'the script ran once')
  t.match(await query("SELECT logs, finished_at, rolled_back_at FROM _prisma_migrations WHERE migration_name = '20260102_round'"),
    [{ logs: null, finished_at: Date, rolled_back_at: null }])
})

t.test('the next migrator repeats a migration if Postgres took back the script of a killed one', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': firstScript,
    '20260102_round': `INSERT INTO drinks VALUES (1, 'ale'); ${gated('')}`
  })
  const gate = await hold()
  const killed = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  killed.kill('SIGKILL')
  await killed.exit
  await query('SELECT pg_terminate_backend($1)', [backend])
  await gate.open()

  t.same(await query('SELECT migration_name AS name FROM _prisma_migrations'), [{ name: '20260101_drinks' }], 'the killed migrator left no record')
  t.same(await migrate({ url, directory }), { applied: ['20260102_round'] })
  t.same(await query('SELECT name FROM drinks'), [{ name: 'ale' }])
  t.match(await query("SELECT * FROM _prisma_migrations WHERE migration_name = '20260102_round'"), [
    { finished_at: Date, rolled_back_at: null, logs: null, applied_steps_count: 1 }
  ])
})

for (const { left, isThere = false, logs = null } of [
  { left: 'killed in the script' },
  { left: 'killed between the script and the end of the record', isThere: true },
  { left: 'failed', logs: 'ERROR: permission denied for schema public' },
  { left: 'marked as one transaction', logs: 'last-orders: the script and the end of this record are one transaction' }
]) {
  t.test(`the migrator completes a first migration that an earlier version left unfinished: ${left}`, async t => {
    const { url, query } = await prepare(t, {})
    const [first, ...others] = readMigrations()
    if (first === undefined) throw new Error('there is no migration')
    await byTheEngine(url, engine => engine.applyMigrations({ migrationsList: { ...list(), migrationDirectories: [] }, filters }))
    await query('INSERT INTO _prisma_migrations (id, checksum, migration_name, logs) VALUES (gen_random_uuid(), $1, $2, $3)', [first.checksum, first.name, logs])
    if (isThere) await query(first.script)

    const lines: string[] = []
    t.same((await migrate({ url, log: line => lines.push(line) })).applied, (isThere ? others : [first, ...others]).map(({ name }) => name))
    t.match(lines.join('\n'), isThere ? /all of it is in place/ : /took it back/)
    t.same(await migrate({ url }), { applied: [] })
    const whole = await prepare(t, {})
    await migrate({ url: whole.url })
    t.same(await thingsIn(query), await thingsIn(whole.query))
    t.match(await byTheEngine(url, engine => engine.diagnoseMigrationHistory({ migrationsList: list(), optInToShadowDatabase: false, filters })), {
      failedMigrationNames: [], history: null
    }, "Prisma's own engine agrees")
  })
}

t.test("Prisma's own engine finds every migration applied, and would have written the same records", async t => {
  const ours = await prepare(t, {})
  const { applied } = await migrate({ url: ours.url })
  const theirs = await prepare(t, {})
  t.same(await byTheEngine(theirs.url, engine => engine.applyMigrations({ migrationsList: list(), filters })), { appliedMigrationNames: applied })
  t.same(await byTheEngine(ours.url, engine => engine.applyMigrations({ migrationsList: list(), filters })), { appliedMigrationNames: [] }, 'as `prisma migrate deploy`')
  t.match(await byTheEngine(ours.url, engine => engine.diagnoseMigrationHistory({ migrationsList: list(), optInToShadowDatabase: false, filters })), {
    failedMigrationNames: [], editedMigrationNames: [], history: null, hasMigrationsTable: true
  }, 'as `prisma migrate status`')

  const columns = `SELECT column_name, data_type, character_maximum_length, is_nullable, column_default FROM information_schema.columns
    WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position`
  t.same(await ours.query(columns), await theirs.query(columns))
  const records = `SELECT migration_name, checksum, logs, rolled_back_at, applied_steps_count, finished_at >= started_at AS finished, length(id) AS id
    FROM _prisma_migrations ORDER BY started_at`
  t.same(await ours.query(records), await theirs.query(records))
  t.same(await migrate({ url: theirs.url }), { applied: [] }, 'the migrator accepts the records of the engine')
})

t.test('a migration with -- no-transaction in its head runs outside a transaction, even after one that set a lock_timeout', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': 'SET lock_timeout = \'100ms\'; SET search_path = \'\'; CREATE TABLE public."drinks" ("id" BIGINT PRIMARY KEY, "name" TEXT NOT NULL);',
    '20260102_name': '-- By name.\n-- no-transaction\nCREATE INDEX CONCURRENTLY "drinks_name_idx" ON "drinks"("name");\n',
    '20260103_plain': 'CREATE INDEX CONCURRENTLY "drinks_again_idx" ON "drinks"("name"); -- no-transaction'
  })
  await t.rejects(migrate({ url, directory }), { code: 'failed', message: /20260103_plain, .*SQLSTATE 25001.*took all of it back.*-- no-transaction/ })
  t.match(await query('SELECT migration_name AS name, finished_at, applied_steps_count FROM _prisma_migrations ORDER BY started_at'), [
    { name: '20260101_drinks' }, { name: '20260102_name', finished_at: Date, applied_steps_count: 1 }
  ])
})

t.test('the migrator removes an index that could not be built, and builds it once that is possible', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': `${firstScript} INSERT INTO drinks VALUES (1, 'ale'), (2, 'ale')`,
    '20260102_name': '-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY "drinks_name_idx" ON "drinks"("name")'
  })
  for (let n = 0; n < 2; n++) {
    await t.rejects(migrate({ url, directory }), { code: 'failed', message: /SQLSTATE 23505.*took all of it back.*Correct the migration/ })
    t.same(await query("SELECT to_regclass('drinks_name_idx') AS it"), [{ it: null }], 'an invalid unique index would still refuse rows')
  }
  await query('DELETE FROM drinks WHERE id = 2')
  t.same(await migrate({ url, directory }), { applied: ['20260102_name'] })
})

for (const { left, sql = '' } of [
  { left: 'before the build' },
  { left: 'during the build', sql: 'CREATE INDEX "drinks_name_idx" ON "drinks"("name"); UPDATE pg_index SET indisvalid = false WHERE indexrelid = \'drinks_name_idx\'::regclass' },
  { left: 'between the build and the end of the record', sql: 'CREATE INDEX "drinks_name_idx" ON "drinks"("name")' }
]) {
  t.test(`the next migrator completes an index whose migrator was killed ${left}`, async t => {
    const { url, directory, query } = await prepare(t, {
      '20260101_drinks': firstScript,
      '20260102_name': '-- no-transaction\nCREATE INDEX CONCURRENTLY "drinks_name_idx" ON "drinks"("name")'
    })
    await migrate({ url, directory })
    await query("DROP INDEX drinks_name_idx; UPDATE _prisma_migrations SET finished_at = NULL, applied_steps_count = 0 WHERE migration_name = '20260102_name'")
    await query(sql)
    await migrate({ url, directory })
    t.same(await query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'drinks_name_idx'::regclass"), [{ indisvalid: true }])
    t.same(await migrate({ url, directory }), { applied: [] })
    t.same(await query('SELECT count(*)::int AS finished FROM _prisma_migrations WHERE finished_at IS NOT NULL'), [{ finished: 2 }])
  })
}

t.test('a migrator waits without a deadlock while another one builds an index concurrently', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': firstScript,
    '20260102_name': '-- no-transaction\nCREATE INDEX CONCURRENTLY "drinks_name_idx" ON "drinks"("name")'
  })
  await migrate({ url, directory })
  await query("DROP INDEX drinks_name_idx; DELETE FROM _prisma_migrations WHERE migration_name = '20260102_name'")
  // The build waits for this write, and then for every older snapshot.
  const writer = new pg.Client({ connectionString: url })
  await writer.connect()
  t.teardown(() => writer.end())
  await writer.query("BEGIN; INSERT INTO drinks VALUES (1, 'ale')")
  const first = start(t, 'migrator.ts', [url, directory])
  while ((await query("SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'")).length === 0);
  const second = start(t, 'migrator.ts', [url, directory])
  await second.line(/another process migrates/)
  await writer.query('COMMIT')
  t.match(await first.exit, { code: 0, output: 'applied ["20260102_name"]' })
  t.match(await second.exit, { code: 0, output: 'applied []' })
})

t.test('a statement other than an index that fails outside a transaction is left to a person', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': firstScript,
    '20260102_vacuum': '-- no-transaction\nVACUUM cellar'
  })
  await t.rejects(migrate({ url, directory }), { code: 'failed', message: /SQLSTATE 42P01.*is unknown\. Nothing more was applied.*--rolled-back 20260102_vacuum/ })
  await t.rejects(migrate({ url, directory }), { code: 'unknown-outcome', message: /20260102_vacuum/ })
  t.match(await query("SELECT finished_at, logs FROM _prisma_migrations WHERE migration_name = '20260102_vacuum'"), [{ finished_at: null, logs: /does not exist/ }])
  await query('CREATE TABLE cellar ()')
  await settle({ url, directory, name: '20260102_vacuum', as: 'rolled back' })
  t.same(await migrate({ url, directory }), { applied: ['20260102_vacuum'] })
})

t.test('the migrator refuses what a person says of a migration if the records contradict it', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': firstScript })
  await t.rejects(settle({ url, directory, name: 'none', as: 'applied' }), { message: /no migration "none"/ })
  await t.rejects(settle({ url, directory, name: '20260101_drinks', as: 'rolled back' }), { message: /no unfinished record of/ })
  await migrate({ url, directory })
  await t.rejects(settle({ url, directory, name: '20260101_drinks', as: 'applied' }), { message: /applied already/ })
})

t.test('a killed migration with transactions of its own is left to a person, who can say how far it came', async t => {
  const { url, directory, query, hold } = await prepare(t, {
    '20260101_drinks': `BEGIN; ${firstScript} COMMIT; ${gated('')}`,
    '20260102_fill': 'INSERT INTO drinks VALUES (1, \'ale\');'
  })
  const gate = await hold()
  const killed = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  killed.kill('SIGKILL')
  await killed.exit
  await query('SELECT pg_terminate_backend($1)', [backend])
  await gate.open()

  await t.rejects(migrate({ url, directory }), {
    code: 'unknown-outcome',
    message: /20260101_drinks.*Nothing more was applied.*--applied 20260101_drinks.*--rolled-back 20260101_drinks/
  })
  await settle({ url, directory, name: '20260101_drinks', as: 'applied' })
  t.same(await migrate({ url, directory }), { applied: ['20260102_fill'] })
})

t.test('a migrator that loses its session stops, and the next one continues', async t => {
  const { url, directory, query, hold } = await prepare(t, { '20260101_drinks': firstScript, '20260102_gate': gated('') })
  const gate = await hold()
  const cut = start(t, 'migrator.ts', [url, directory])
  const { backend } = await gate.reached()
  await query('SELECT pg_terminate_backend($1)', [backend])
  t.match(await cut.exit, { code: 1, output: /20260102_gate was cut off: .*The next start finds out/ })
  await gate.open()
  t.same(await migrate({ url, directory }), { applied: ['20260102_gate'] })
})

t.test('an unfinished record of another tool is left to a person if nothing shows how far it came', async t => {
  const { url, directory, query } = await prepare(t, { '20260101_drinks': firstScript, '20260102_fill': "INSERT INTO drinks VALUES (1, 'ale');\nCREATE INDEX named ON drinks (name);" })
  await migrate({ url, directory })
  await query("UPDATE _prisma_migrations SET finished_at = NULL, applied_steps_count = 0 WHERE migration_name = '20260102_fill'")
  await t.rejects(migrate({ url, directory }), { code: 'unknown-outcome' })
  await query('DELETE FROM drinks; DROP INDEX named')
  await settle({ url, directory, name: '20260102_fill', as: 'rolled back' })
  t.same(await migrate({ url, directory }), { applied: ['20260102_fill'] })
})

t.test('a migration that fails leaves no trace, and is applied once it is corrected', async t => {
  const { url, directory, query } = await prepare(t, {
    '20260101_drinks': `${firstScript}\nINSERT INTO drinks VALUES (1);\n`,
    '20260102_fill': 'INSERT INTO drinks VALUES (2, \'stout\');'
  })
  await t.rejects(migrate({ url, directory }), {
    name: 'MigrationError',
    code: 'failed',
    message: /^A migration failed: 20260101_drinks, null value in column "name".*SQLSTATE 23502.*took all of it back/
  })
  t.same(await query("SELECT to_regclass('drinks') AS it"), [{ it: null }])

  writeFileSync(join(directory, '20260101_drinks/migration.sql'), firstScript)
  t.same(await migrate({ url, directory }), { applied: ['20260101_drinks', '20260102_fill'] })
})

t.test('a syntax error in a migration is reported with its line', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': `${firstScript}\nCREATE TABEL x ();\n` })
  await t.rejects(migrate({ url, directory }), { message: /syntax error at or near "TABEL" \(SQLSTATE 42601, line 2\)/ })
})

t.test('a migration that was changed after it was applied is reported, and not run again', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': firstScript })
  await migrate({ url, directory })
  writeFileSync(join(directory, '20260101_drinks/migration.sql'), `-- new\n${firstScript}`)
  const log: string[] = []
  t.same(await migrate({ url, directory, log: line => log.push(line) }), { applied: [] })
  t.same(log, ['20260101_drinks has been changed since it was applied here'])
})

t.test('the migrator accepts a database that a newer version has migrated', async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': firstScript, '20260102_newer': 'SELECT 1;' })
  await migrate({ url, directory })
  rmSync(join(directory, '20260102_newer'), { recursive: true })
  t.same(await migrate({ url, directory }), { applied: [] })
})

t.test("a migrator does not load Prisma's engine", async t => {
  const { url, directory } = await prepare(t, { '20260101_drinks': firstScript })
  const nodeOptions = ['--import', `data:text/javascript,${encodeURIComponent(`
    import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => {
      if (url.includes('schema-engine-wasm')) console.log('the engine is loaded')
      return next(url, context)
    } })`)}`]
  t.same(await start(t, 'migrator.ts', [url, directory], { nodeOptions }).exit, { code: 0, signal: null, output: 'applied ["20260101_drinks"]\n' })
})

t.test('a database that cannot be reached is reported in one clear message, without the password', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))

  const error = await migrate({ url: `postgresql://me:hunter2@127.0.0.1:${port}/bar` }).catch((error: unknown) => error)
  t.ok(error instanceof MigrationError)
  t.match(error, { code: 'unreachable', message: /cannot be reached.*ECONNREFUSED.*Nothing was applied/ })
  t.notMatch((error as Error).message, /hunter2/)
})

t.test('npm run db:migrate reports an unreachable database in one line, and fails', async t => {
  const { code, output } = await start(t, '../../prisma/migrate.ts', [], {
    env: { ...process.env, DATABASE_URL: 'postgresql://me@127.0.0.1:1/bar' }
  }).exit
  t.equal(code, 1)
  t.match(output, /^The database at \S+ cannot be reached [^\n]+\n$/)
})

t.test('a database that does not exist is reported in one clear message', async t => {
  const { url } = await prepare(t, {})
  await t.rejects(migrate({ url: url.replace(/\/test_\w+/, '/no_such') }), { code: 'refused', message: /"no_such" does not exist/ })
})

t.test('a folder without migrations is reported in one clear message', async t => {
  await t.rejects(migrate({ url: 'postgresql://127.0.0.1:1/bar', directory: '/nowhere' }), { code: 'bad-folder' })
})

/** A script that waits until the test opens the gate. */
function gated (rest: string): string {
  return `SELECT pg_advisory_xact_lock(${gateLock}); ${rest}`
}

const filters = { externalTables: [], externalEnums: [] }

/** The repository's migrations as the engine takes them. */
function list (): MigrationList {
  return {
    baseDir: migrationsDirectory,
    lockfile: { path: 'migration_lock.toml', content: 'provider = "postgresql"\n' },
    shadowDbInitScript: '',
    migrationDirectories: readMigrations().map(({ name, script }) => ({ path: name, migrationFile: { path: 'migration.sql', content: { tag: 'ok', value: script } } }))
  }
}

/** Uses the engine of Prisma's CLI, compiled to WebAssembly. */
async function byTheEngine<T> (url: string, use: (engine: SchemaEngine) => Promise<T>): Promise<T> {
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  const engine = await openSchemaEngine(new DescribedDatabase(pool))
  try {
    return await use(engine)
  } finally {
    engine.free()
    await pool.end()
  }
}
