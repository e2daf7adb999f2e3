import { randomUUID } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { databaseUrlOf, environmentOf } from '../config.ts'
import { readLayers } from '../config/layers.ts'
import { forPeople } from '../user-error.ts'
import { openDatabase } from './database.ts'
import { nameEnvironment, requireSameEnvironment } from './environment.ts'
import { MigrationError } from './migration-error.ts'
import { createHistory, endRecord, readHistory, recordOf, type History, type Unfinished } from './migration-history.ts'
import { readMigrations, type Migration } from './migration-files.ts'
import { makeSchema, refuseStrangers, schemaOf } from './schema.ts'
import { UtcClient } from './utc-client.ts'
import { requireReadWrite } from './writable.ts'

export { MigrationError } from './migration-error.ts'

export interface MigrateOptions {
  url: string
  /** Default: the repository's prisma/migrations. */
  directory?: string | undefined
  /** The environment of this process. It refuses a database of another one, and names a database without one. Default: none. */
  environment?: string | undefined
  log?: ((line: string) => void) | undefined
}

/** The lock of this program, and that of Prisma's engine. A second migrator of the engine fails after 10 s; this one waits. */
const locks = [5_201_315, 72_707_369]

const connectTimeoutMs = 10_000

const lockPollMs = 100

/**
 * Applies the migrations, and writes the records that `prisma migrate deploy` would. Any number of processes may do so at once:
 * one works, and the others wait. A migration and its record are one transaction, so that a killed migrator leaves all of it or
 * nothing.
 *
 * @returns the names of the migrations that this call applied, in order; none if the database was up to date.
 * @throws MigrationError
 */
export async function migrate ({ url, directory, environment, log = () => {} }: MigrateOptions): Promise<{ applied: string[] }> {
  const migrations = readMigrations(directory)
  return await withSession(url, async session => {
    const schema = await schemaOf(session, url)
    const fence = { url, schema, environment }
    const name = await requireSameEnvironment(session, fence)
    const done = isDone(migrations, await readHistory(session, schema), log)
    if (done && name === environment) return { applied: [] }
    await requireReadWrite(url, async text => (await session.query(text)).rows)
    if (done) {
      await nameEnvironment(session, fence)
      return { applied: [] }
    }
    await lock(session, log)
    const history = await readHistory(session, schema)
    if (!history.exists) {
      await refuseStrangers(session, schema, migrations)
      await makeSchema(session, schema, migrations)
      await createHistory(session, history)
    }
    const applied = new Set(history.finished.keys())
    for (const record of history.unfinished) {
      const state = await stateLeft(session, schema, history, record, migrations.find(({ name }) => name === record.name))
      log(`${record.name} was interrupted earlier: ` + (state === 'applied' ? 'all of it is in place' : 'Postgres took it back, and it will be applied again'))
      await endRecord(session, history, record, state)
      if (state === 'applied') applied.add(record.name)
    }
    const pending = migrations.filter(({ name }) => !applied.has(name))
    for (const migration of pending) await apply(session, schema, history, migration)
    await nameEnvironment(session, fence)
    return { applied: pending.map(({ name }) => name) }
  })
}

/**
 * Records what a person found out about a migration whose outcome is unknown, or whose record is lost.
 *
 * @throws MigrationError
 */
export async function settle ({ url, directory, log = () => {}, name, as }: MigrateOptions & {
  name: string
  as: 'applied' | 'rolled back'
}): Promise<void> {
  const migration = readMigrations(directory).find(migration => migration.name === name)
  await withSession(url, async session => {
    const schema = await schemaOf(session, url)
    await lock(session, log)
    const history = await readHistory(session, schema)
    const unfinished = history.unfinished.filter(record => record.name === name)
    if (history.finished.has(name)) throw new MigrationError('bad-name', `${name} is recorded as applied already. Nothing was changed.`)
    if (as === 'applied' && migration === undefined) throw new MigrationError('bad-name', `There is no migration "${name}". Nothing was changed. Use the name of its folder in prisma/migrations.`)
    if (as === 'rolled back' && unfinished.length === 0) throw new MigrationError('bad-name', `There is no unfinished record of ${name}. Nothing was changed.`)
    if (!history.exists) await createHistory(session, history)
    for (const record of unfinished) await endRecord(session, history, record, 'rolled back')
    if (as === 'applied' && migration !== undefined) await session.query(recordOf(history, randomUUID(), migration, 'finished', 0))
  })
}

/**
 * After a migrator is killed, Postgres runs its script to the end, and its session keeps the lock until then. So the holder of
 * the lock knows that no migration is under way.
 */
async function withSession<T> (url: string, use: (session: pg.Client) => Promise<T>): Promise<T> {
  const session = new UtcClient({ connectionString: url, connectionTimeoutMillis: connectTimeoutMs, keepAlive: true, application_name: 'last-orders migrate' })
  session.on('error', () => {})
  try {
    await session.connect()
    return await use(session)
  } catch (error) {
    throw MigrationError.from(error, url)
  } finally {
    await session.end()
  }
}

/**
 * Whether every migration has a finished record, and none an unfinished one. Sound without the lock, because nothing revokes a
 * finished record.
 */
function isDone (migrations: readonly Migration[], { unfinished, finished }: History, log: (line: string) => void): boolean {
  for (const { name, checksum } of migrations) {
    if (finished.has(name) && finished.get(name) !== checksum) log(`${name} has been changed since it was applied here`)
  }
  return unfinished.length === 0 && migrations.every(({ name }) => finished.has(name))
}

/**
 * Polls for the lock and does not wait in Postgres: a waiting statement holds a snapshot, and the holder of the lock may run
 * CREATE INDEX CONCURRENTLY, which waits for every snapshot. That would be a deadlock.
 */
async function lock (session: pg.Client, log: (line: string) => void): Promise<void> {
  for (const key of locks) {
    for (let isTaken = false, asked = 0; !isTaken; asked++) {
      const { rows } = await session.query<{ taken: boolean }>('SELECT pg_try_advisory_lock($1) AS taken', [key])
      isTaken = rows[0]?.taken === true
      if (isTaken) continue
      if (asked === 0) log('another process migrates this database: waiting for it')
      await delay(lockPollMs)
    }
  }
}

/**
 * One transaction writes the unfinished record, runs the script, and finishes the record. The unfinished record becomes visible
 * only if the script itself commits; after a kill it then says that the outcome is unknown.
 */
async function apply (session: pg.Client, schema: string, history: History, migration: Migration): Promise<void> {
  const { script, isTransaction } = migration
  const id = randomUUID()
  // Resets what the previous migration has set: its lock_timeout would end a CREATE INDEX CONCURRENTLY. Nor may a role's
  // statement_timeout end one, which takes longer the larger the table is.
  await session.query('RESET ALL' + (isTransaction ? '' : '; SET statement_timeout = 0; SET lock_timeout = 0'))
  await session.query((isTransaction ? 'BEGIN;' : '') + recordOf(history, id, migration, 'unfinished'))
  const finish = recordOf(history, id, migration, 'finished')
  try {
    // One message: once Postgres has it, it runs to the end, even if the migrator dies.
    if (isTransaction) {
      await session.query(`${script}\n;${finish};commit`)
    } else {
      await session.query(script)
      await session.query(finish)
    }
  } catch (error) {
    if (!isAnswer(error)) throw cutOff(migration, error)
    if (isTransaction) await session.query('ROLLBACK')
    const { rowCount } = await session.query(`UPDATE ${history.table} SET logs = $2 WHERE id = $1`, [id, error.message])
    const index = indexBuiltBy(migration)
    if (index !== undefined) await indexLeft(session, schema, index)
    throw failed(migration, error, rowCount === 0 || index !== undefined)
  }
}

/**
 * The outcome of a migration with an unfinished record. If the migration only builds an index CONCURRENTLY, the index shows it.
 * If the script commits by itself, only a person can find out. In the other cases the record is from an earlier version, or from
 * `prisma migrate deploy`, which finish the record after the script's transaction: Postgres rolled a script back if it failed,
 * and also if nothing that it makes exists.
 *
 * @throws MigrationError 'unknown-outcome'
 */
async function stateLeft (session: pg.Client, schema: string, { finished }: History, { name, logs }: Unfinished, migration: Migration | undefined): Promise<'applied' | 'rolled back'> {
  const index = migration === undefined ? undefined : indexBuiltBy(migration)
  if (index !== undefined) return await indexLeft(session, schema, index)
  if (migration?.isTransaction !== true || mayCommit(migration.script)) throw unknownOutcome(name)
  if (logs !== null) return 'rolled back'
  // Only for the first migration: a later one may create again what existed before.
  const made = finished.size === 0 ? lastMade(migration.script) : undefined
  if (made === undefined) throw unknownOutcome(name)
  const { rowCount } = await session.query(`
    SELECT FROM pg_class WHERE relname = $1 AND relnamespace = $2::text::regnamespace UNION ALL
    SELECT FROM pg_proc WHERE proname = $1 AND pronamespace = $2::text::regnamespace`, [made, pg.escapeIdentifier(schema)])
  return rowCount === 0 ? 'rolled back' : 'applied'
}

/** The index, if CREATE INDEX CONCURRENTLY is all that the migration does. */
function indexBuiltBy ({ script, isTransaction }: Migration): string | undefined {
  if (isTransaction) return undefined
  return /^\s*create\s+(?:unique\s+)?index\s+concurrently\s+"?(\w+)"?\s+on\s[^;]*;?\s*$/i.exec(script.replace(/^\s*--.*$/gm, ''))?.[1]
}

/** Whether the index was built. Drops an invalid one: it serves no query, and the next attempt would fail on it. */
async function indexLeft (session: pg.Client, schema: string, index: string): Promise<'applied' | 'rolled back'> {
  const qualified = `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(index)}`
  const { rows: [found] } = await session.query<{ whole: boolean }>('SELECT indisvalid AND indisready AS whole FROM pg_index WHERE indexrelid = to_regclass($1)', [qualified])
  if (found?.whole === true) return 'applied'
  if (found !== undefined) await session.query(`DROP INDEX CONCURRENTLY ${qualified}`)
  return 'rolled back'
}

/** Whether a script may have ended a transaction itself. When in doubt, yes. */
function mayCommit (script: string): boolean {
  return /\b(begin|start)\s*(;|transaction\b|work\b|isolation\b|read\b|not\b|deferrable\b)|\b(commit|rollback|abort|call|concurrently|vacuum)\b/i.test(script.replace(/^\s*--.*$/gm, ''))
}

/** The last table, index or function that a script creates: if it exists, so does everything before it. */
function lastMade (script: string): string | undefined {
  return [...script.matchAll(/^\s*create (?:table|(?:unique )?index|function) (?!if\b)"?(\w+)/gim)].at(-1)?.[1]
}

/** Whether the statement failed, and not the session. */
function isAnswer (error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && !/^(08|57P)/.test(error.code ?? '')
}

function cutOff ({ name }: Migration, error: unknown): MigrationError {
  return new MigrationError('failed',
    `Migration ${name} was cut off: ${error instanceof Error ? error.message : String(error)}. Nothing after it was applied. ` +
    'Start again. The next start finds out whether Postgres committed it.', { cause: error })
}

function failed ({ name, script }: Migration, error: pg.DatabaseError, isUndone: boolean): MigrationError {
  const line = error.position === undefined ? '' : `, line ${script.slice(0, Number(error.position)).split('\n').length}`
  return new MigrationError('failed',
    `A migration failed: ${name}, ${error.message} (SQLSTATE ${error.code}${line}). ` + (isUndone
      ? 'Postgres took all of it back. Nothing after it was applied. ' + wayOut(error)
      : advice(name)), { cause: error })
}

function wayOut ({ code }: pg.DatabaseError): string {
  if (code === '25001') return 'It cannot run in a transaction. Put it alone into a migration, below the line `-- no-transaction`.'
  return 'Correct the migration, or the data that it failed on, and start again.'
}

function unknownOutcome (name: string): MigrationError {
  return new MigrationError('unknown-outcome',
    `Migration ${name} was begun earlier, and its record was never finished. ${advice(name)}`)
}

function advice (name: string): string {
  return 'How much of it is in place is unknown. Nothing more was applied. Look at the database. ' +
    `If all of it is in place, run \`npm run db:migrate -- --applied ${name}\`. If nothing of it is, run ` +
    `\`npm run db:migrate -- --rolled-back ${name}\`.`
}

async function main (): Promise<void> {
  const { values } = parseArgs({ options: { applied: { type: 'string', multiple: true }, 'rolled-back': { type: 'string' } } })
  const log = (line: string) => console.log(line)
  const settings = (await readLayers()).environment
  const environment = environmentOf(settings)
  const database = await openDatabase({ url: databaseUrlOf(settings), log })
  try {
    const { url } = database
    for (const name of values.applied ?? []) await settle({ url, log, name, as: 'applied' })
    if (values['rolled-back'] !== undefined) await settle({ url, log, name: values['rolled-back'], as: 'rolled back' })
    const { applied } = await migrate({ url, environment, log })
    log(applied.length === 0 ? 'nothing to apply: the database is up to date' : `applied ${applied.join(', ')}`)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main().catch((error: unknown) => {
    console.error(forPeople(error))
    process.exitCode = 1
  })
}
