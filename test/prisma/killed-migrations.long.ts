import t from 'tap'
import { migrate } from '../../prisma/migrate.ts'
import { readMigrations } from '../../prisma/migration-files.ts'
import { gateLock, prepare, thingsIn } from './migrations.ts'
import { start } from './program.ts'

t.test("a migrator killed at any statement leaves each of the repository's migrations whole or absent, and the next start continues", async t => {
  const whole = await prepare(t, {})
  const { applied: all } = await migrate({ url: whole.url })
  const things = await thingsIn(whole.query)
  const isTransaction = new Map(readMigrations().map(({ name, isTransaction }) => [name, isTransaction]))

  let statement = 0
  // It kills at each of the first statements, which make the records and the tables. The others are alike: every seventh will do.
  for (let killed = true; killed; statement += statement < 15 ? 1 : 7) {
    const { url, query, hold } = await prepare(t, {})
    // The chosen DDL command waits at the gate.
    await query(`CREATE SEQUENCE turn;
      CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS
        'BEGIN IF nextval(''public.turn'') = ${statement + 1} THEN PERFORM pg_advisory_xact_lock(${gateLock}); END IF; END';
      CREATE EVENT TRIGGER stop ON ddl_command_start EXECUTE FUNCTION stop()`)
    const gate = await hold()
    const migrator = start(t, 'migrator.ts', [url])
    const reached = await Promise.race([gate.reached(), migrator.exit])
    killed = 'backend' in reached
    if ('backend' in reached) {
      migrator.kill('SIGKILL')
      await query('SELECT pg_terminate_backend($1, 5000)', [reached.backend])
    }
    await gate.open()
    await query('DROP EVENT TRIGGER stop; DROP FUNCTION stop; DROP SEQUENCE turn')

    const left = (await thingsIn(query)).includes('_prisma_migrations') ? await query('SELECT migration_name AS name, finished_at FROM _prisma_migrations ORDER BY started_at') : []
    const finished = left.filter(record => record.finished_at !== null).length
    t.notOk(left.some(record => record.finished_at === null && isTransaction.get(String(record.name)) === true), `killed at statement ${statement + 1}, no record of one transaction is unfinished`)
    if (left.length === 0) t.same((await thingsIn(query)).filter(name => !/^_+prisma_migrations/.test(String(name))), [], 'without a record nothing else is there')
    t.same((await migrate({ url })).applied, all.slice(finished), 'the next migrator applies the rest')
    t.same(await thingsIn(query), things)
    t.equal((await query('SELECT FROM _prisma_migrations WHERE rolled_back_at IS NULL')).length, all.length)
  }
  t.ok(statement > 60, `up to statement ${statement}`)
})
