import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import t, { type Test } from 'tap'
import { nameEnvironment, requireEnvironment } from '../../prisma/environment.ts'
import { migrate } from '../../prisma/migrate.ts'
import { createTestDatabase } from '../postgres.ts'
import { spawnService, startService } from '../service.ts'

const run = promisify(execFile)
const secret = 'a secret for tests, of more than thirty-two bytes'

t.test('the first service with ENVIRONMENT names the database, and a service of another environment refuses to start on it', async t => {
  const { url } = await createTestDatabase(t)
  const staging = await startService(t, { DATABASE_URL: url, ENVIRONMENT: 'staging' })
  await startService(t, { DATABASE_URL: url, ENVIRONMENT: 'staging' })
  for (const [settings, says] of [
    [{ ENVIRONMENT: 'production' }, /belongs to the environment "staging", and this process to "production" \(ENVIRONMENT\)\. Nothing was applied or started\. Let DATABASE_URL lead/],
    [{ ENVIRONMENT: 'production', MIGRATE_ON_START: 'false' }, /belongs to the environment "staging", and this process to "production"/],
    [{}, /belongs to the environment "staging", and this process has no ENVIRONMENT\. Nothing was applied or started\. Set ENVIRONMENT=staging if/]
  ] as Array<[Record<string, string>, RegExp]>) {
    const refused = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, DATABASE_URL: url, ...settings })
    t.same(await refused.exited, [1, null])
    t.match(refused.lines.join('\n'), says)
  }
  t.equal((await fetch(`${staging.url}/readyz`)).status, 200, 'the service of the same environment still serves')
})

t.test('a migrator of another environment applies nothing, and one of two that name a new database at once is refused', async t => {
  const { url, sql } = await database(t, true)
  const starts = await Promise.allSettled(['staging', 'production'].map(async environment => await migrate({ url, environment })))
  t.same(starts.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  t.match(starts.find(({ status }) => status === 'rejected'), { reason: { code: 'other-environment' } })
  const { rows: [named] } = await sql.query<{ name: string }>('SELECT name FROM environment')

  await sql.query("DELETE FROM _prisma_migrations WHERE migration_name = '20261130000100_environment'")
  await t.rejects(migrate({ url, environment: named?.name === 'staging' ? 'production' : 'staging' }), { code: 'other-environment' })
  t.equal((await sql.query("SELECT FROM _prisma_migrations WHERE migration_name = '20261130000100_environment'")).rowCount, 0, 'the refused migrator has applied nothing')
})

t.test('a database without an environment serves every service, even if it lacks the table', async t => {
  const { url, sql } = await database(t)
  t.equal(await requireEnvironment({ url, environment: undefined }), undefined)
  t.equal(await requireEnvironment({ url, environment: 'staging' }), undefined)
  const service = await startService(t, { DATABASE_URL: url, ENVIRONMENT: 'staging', MIGRATE_ON_START: 'false' })
  await service.line(/The database belongs to no environment, so any service may start on it/)
  await sql.query('DROP TABLE environment')
  t.equal(await requireEnvironment({ url, environment: 'staging' }), undefined)
})

t.test('each schema has an environment of its own', async t => {
  const { url, sql } = await database(t)
  await nameEnvironment(sql, { url, schema: 'public', environment: 'production' })
  await sql.query('CREATE SCHEMA staging; CREATE TABLE staging.environment (LIKE public.environment INCLUDING ALL)')
  await nameEnvironment(sql, { url, schema: 'staging', environment: 'staging' })
  t.same((await sql.query('SELECT name FROM staging.environment')).rows, [{ name: 'staging' }])
})

t.test('npm run db:environment prints the environment of a database, and renames that of a copy', async t => {
  const { url } = await createTestDatabase(t)
  await migrate({ url, environment: 'production' })
  const command = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(process.execPath, [join(import.meta.dirname, '../../prisma/environment.ts'), ...args], { env: { PATH: process.env.PATH, DATABASE_URL: url }, cwd: t.testdir() })
    return stdout
  }
  t.match(await command(), 'The database belongs to the environment "production".')
  t.match(await command('staging'), /now belongs to the environment "staging"; before, it belonged to "production"\./)
  t.equal(await requireEnvironment({ url, environment: 'staging' }), 'staging')
  await t.rejects(command('the pub'), /ENVIRONMENT is "the pub"/)
  await t.rejects(command('one', 'two'), /Usage/)
})

async function database (t: Test, empty = false): Promise<{ url: string, sql: pg.Client }> {
  const { url } = await createTestDatabase(t, { empty })
  const sql = new pg.Client({ connectionString: url })
  sql.on('error', () => {})
  await sql.connect()
  t.teardown(() => sql.end())
  return { url, sql }
}
