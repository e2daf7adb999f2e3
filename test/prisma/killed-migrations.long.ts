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
    await query(`create sequence turn;
      create function stop() returns event_trigger language plpgsql as
        'begin if nextval(''public.turn'') = ${statement + 1} then perform pg_advisory_xact_lock(${gateLock}); end if; end';
      create event trigger stop on ddl_command_start execute function stop()`)
    const gate = await hold()
    const migrator = start(t, 'migrator.ts', [url])
    const reached = await Promise.race([gate.reached(), migrator.exit])
    killed = 'backend' in reached
    if ('backend' in reached) {
      migrator.kill('SIGKILL')
      await query('select pg_terminate_backend($1, 5000)', [reached.backend])
    }
    await gate.open()
    await query('drop event trigger stop; drop function stop; drop sequence turn')

    const left = (await thingsIn(query)).includes('_prisma_migrations') ? await query('select migration_name as name, finished_at from _prisma_migrations order by started_at') : []
    const finished = left.filter(record => record.finished_at !== null).length
    t.notOk(left.some(record => record.finished_at === null && isTransaction.get(String(record.name)) === true), `killed at statement ${statement + 1}, no record of one transaction is unfinished`)
    if (left.length === 0) t.same((await thingsIn(query)).filter(name => !/^_+prisma_migrations/.test(String(name))), [], 'without a record nothing else is there')
    t.same((await migrate({ url })).applied, all.slice(finished), 'the next migrator applies the rest')
    t.same(await thingsIn(query), things)
    t.equal((await query('select from _prisma_migrations where rolled_back_at is null')).length, all.length)
  }
  t.ok(statement > 60, `up to statement ${statement}`)
})
