import { realpathSync } from 'node:fs'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { databaseUrlOf, readEnvironment } from '../config.ts'
import { openDatabase } from './database.ts'
import { MigrationError } from './migration-error.ts'
import { readHistory, unfinished, type Applied } from './migration-history.ts'
import { readMigrations, type Migration } from './migration-files.ts'
import { UtcClient } from './utc-client.ts'
import { requireReadWrite } from './writable.ts'

export { MigrationError } from './migration-error.ts'

export interface MigrateOptions {
  url: string
  /** Default: the repository's prisma/migrations. */
  directory?: string | undefined
  log?: ((line: string) => void) | undefined
}

/** Not the engine's own (72707369): with that one a second migrator fails after 10 s, with this one it waits. */
const MIGRATORS_LOCK = 5_201_315

const CONNECT_TIMEOUT_MS = 10_000

/**
 * Brings the database to the state of the migrations, as `prisma migrate deploy` does and with the same records. Any
 * number of processes may do so at once: one works, the others wait and find it done. One that was killed in the
 * middle is made up for by the next.
 *
 * @returns the names of the migrations that this call applied, in order; none where the database was up to date.
 * @throws MigrationError
 */
export async function migrate ({ url, directory, log = () => {} }: MigrateOptions): Promise<{ applied: string[] }> {
  const migrations = readMigrations(directory)
  return await withSession(url, async pool => {
    if (isDone(migrations, await readHistory(pool), log)) return { applied: [] }
    await requireReadWrite(url, async text => (await pool.query(text)).rows)
    await lock(pool, log)
    const history = await readHistory(pool)
    if (isDone(migrations, history, () => {})) return { applied: [] }
    // Only here: the engine is 5 MB that a second start need not load.
    const { applyMigrations } = await import('./migration-engine.ts')
    return { applied: await applyMigrations({ pool, migrations, unfinished: unfinished(history), log }) }
  })
}

/**
 * Records what a person found out about a migration that was begun and whose end could not be told.
 *
 * @throws MigrationError
 */
export async function settle ({ url, directory, log = () => {}, name, as }: MigrateOptions & {
  name: string
  as: 'applied' | 'rolled back'
}): Promise<void> {
  const migrations = readMigrations(directory)
  await withSession(url, async pool => {
    await lock(pool, log)
    const { settleMigration } = await import('./migration-engine.ts')
    await settleMigration({ pool, migrations, name, as })
  })
}

/**
 * One session for all of it, as a pool because Prisma's adapter takes nothing else. A killed migrator's script runs on
 * in Postgres until it is done, and its session, with the lock, ends only then: whoever has the lock knows that nothing
 * is under way. So the pool must not make a second session, without the lock, where the first is lost.
 */
async function withSession<T> (url: string, use: (pool: pg.Pool) => Promise<T>): Promise<T> {
  let sessions = 0
  const pool = new pg.Pool({
    Client: UtcClient,
    connectionString: url,
    max: 1,
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'last-orders migrate',
    verify: (_client, done) => {
      sessions++
      done(sessions === 1 ? undefined : new Error('Connection terminated: the session that held the lock is lost'))
    }
  })
  pool.on('error', () => {})
  try {
    return await use(pool)
  } catch (error) {
    throw MigrationError.from(error, url)
  } finally {
    await pool.end()
  }
}

/**
 * Whether there is nothing to do: every migration has its finished record and none is unfinished. Sound without the
 * lock, as a finished record is never taken back.
 */
function isDone (migrations: readonly Migration[], history: readonly Applied[], log: (line: string) => void): boolean {
  const finished = new Map(history.filter(row => row.state === 'finished').map(row => [row.name, row.checksum]))
  for (const { name, checksum } of migrations) {
    const recorded = finished.get(name)
    if (recorded !== undefined && recorded !== checksum) log(`${name} has been changed since it was applied here`)
  }
  return unfinished(history).length === 0 && migrations.every(({ name }) => finished.has(name))
}

async function lock (pool: pg.Pool, log: (line: string) => void): Promise<void> {
  const { rows } = await pool.query<{ taken: boolean }>('select pg_try_advisory_lock($1) as taken', [MIGRATORS_LOCK])
  if (rows[0]?.taken === true) return
  log('another process migrates this database: waiting for it')
  // A lock of the session that outlives the transaction, and a wait that no timeout of the role's ends.
  await pool.query(`begin; set local statement_timeout = 0; set local lock_timeout = 0;
    select pg_advisory_lock(${MIGRATORS_LOCK}); commit`)
}

async function main (): Promise<void> {
  const { values } = parseArgs({ options: { applied: { type: 'string' }, 'rolled-back': { type: 'string' } } })
  const log = (line: string) => console.log(line)
  const database = await openDatabase({ url: databaseUrlOf(readEnvironment()), log })
  try {
    const { url } = database
    if (values.applied !== undefined) await settle({ url, log, name: values.applied, as: 'applied' })
    if (values['rolled-back'] !== undefined) await settle({ url, log, name: values['rolled-back'], as: 'rolled back' })
    const { applied } = await migrate({ url, log })
    log(applied.length === 0 ? 'nothing to apply: the database is up to date' : `applied ${applied.join(', ')}`)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main().catch((error: Error) => {
    console.error(error.message)
    process.exitCode = 1
  })
}
