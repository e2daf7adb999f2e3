// Repeats the tests that use the database on another PostgreSQL than the embedded one, with the service behind PgBouncer in
// transaction mode. `npm run test:matrix -- [folder of its programs] [test files]`
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster } from '../verify/postgres/cluster.ts'
import { pgbouncerMissing } from './pgbouncer.ts'
import { binariesIn, debianPostgres } from './postgres.ts'

/**
 * They run every statement of the service: from SQL, over HTTP, and in a migration. The list leaves out tests of something else
 * (HTTP, the drain, the embedded Postgres) and tests with a server of their own: test/cannot-write.long.ts tries both versions
 * itself, and test/pgbouncer.long.ts has a pooler.
 */
const databaseTests = [
  'test/orders/place-orders.test.ts', 'test/orders/relay.test.ts', 'test/orders/feed.test.ts', 'test/orders/search.test.ts',
  'test/routes/orders.test.ts', 'test/routes/products.test.ts', 'test/routes/stream.test.ts',
  'test/prisma/migrate.test.ts', 'test/schema.long.ts', 'test/time-zone.test.ts'
]

const [folder = debianPostgres, ...files] = process.argv.slice(2)
const binaries = binariesIn(folder)
if (binaries === undefined || pgbouncerMissing !== false) {
  console.error(binaries === undefined
    ? `There is no PostgreSQL in ${folder}. Nothing was tested. Install postgresql-15, or name the folder with the programs of another version.`
    : `${pgbouncerMissing}. Nothing was tested. Install pgbouncer.`)
  process.exit(1)
}

const logs = mkdtempSync(join(tmpdir(), 'last-orders-matrix-'))
const cluster = await Cluster.create({ postgres: { binaries: () => binaries, settings: { max_connections: '200' } }, log: join(logs, 'postgres.log') })
try {
  const [version] = await cluster.primary.query<{ version: string }>("SELECT current_setting('server_version') AS version")
  console.log(`PostgreSQL ${version?.version}, through PgBouncer in transaction mode`)
  const tap = spawn('tap', ['--reporter=terse', ...files.length > 0 ? files : databaseTests], {
    stdio: 'inherit',
    env: { ...process.env, TEST_DATABASE_URL: cluster.primary.url('postgres'), TEST_POOLER: 'pgbouncer' }
  })
  const [code] = await once(tap, 'exit')
  process.exitCode = code ?? 1
} finally {
  await cluster.close()
  rmSync(logs, { recursive: true })
}
