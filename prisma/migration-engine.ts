import { PrismaPg } from '@prisma/adapter-pg'
import type {
  SqlDriverAdapter, SqlMigrationAwareDriverAdapterFactory, SqlQuery, SqlResultSet
} from '@prisma/driver-adapter-utils'
import pg from 'pg'
import { MigrationError } from './migration-error.ts'
import { migrationList, runsInOneTransaction, type Migration } from './migration-files.ts'
import { ONE_TRANSACTION, type Applied } from './migration-history.ts'
import { driverError, everything, openSchemaEngine, type SchemaEngine } from './schema-engine.ts'

/**
 * Applies what is missing, by the official engine, and returns its names.
 *
 * @param pool of one connection, which holds the migrators' lock
 * @param unfinished what earlier migrators began and did not finish
 * @throws MigrationError 'unknown-outcome' where an earlier migrator's end cannot be told, 'failed' where a script fails
 */
export async function applyMigrations ({ pool, migrations, unfinished, log }: {
  pool: pg.Pool
  migrations: readonly Migration[]
  unfinished: readonly Applied[]
  log: (line: string) => void
}): Promise<string[]> {
  const runner = new ScriptRunner(pool, migrations)
  return await withEngine(runner, async engine => {
    for (const { name, logs } of unfinished) {
      if (logs !== ONE_TRANSACTION) throw unknownOutcome(name)
      log(`${name} was interrupted and Postgres took it back: applying it again`)
      await engine.markMigrationRolledBack({ migrationName: name })
    }
    try {
      const list = migrationList(migrations)
      const { appliedMigrationNames } = await engine.applyMigrations({ migrationsList: list, filters: everything })
      return appliedMigrationNames
    } catch (error) {
      throw runner.failure ?? error
    }
  })
}

/** Records what a person found out about a migration whose end could not be told. */
export async function settleMigration ({ pool, migrations, name, as }: {
  pool: pg.Pool
  migrations: readonly Migration[]
  name: string
  as: 'applied' | 'rolled back'
}): Promise<void> {
  await withEngine(new ScriptRunner(pool, migrations), engine => as === 'applied'
    ? engine.markMigrationApplied({ migrationName: name, migrationsList: migrationList(migrations) })
    : engine.markMigrationRolledBack({ migrationName: name }))
}

async function withEngine<T> (runner: ScriptRunner, use: (engine: SchemaEngine) => Promise<T>): Promise<T> {
  const engine = await openSchemaEngine(runner)
  try {
    return await use(engine)
  } finally {
    engine.free()
  }
}

/**
 * The engine's connection. It differs from Prisma's own in two things.
 *
 * A script goes to Postgres as a whole: Prisma's adapter splits it at each semicolon, also within a function's body,
 * and runs the pieces one by one. As a whole it is one transaction, unless it says otherwise.
 *
 * And into this transaction goes the end of the migration's record, which the engine writes only afterwards, so that a
 * kill in between cannot make a migration that was committed look like one that failed. What the engine writes
 * then is the same once more.
 */
class ScriptRunner implements SqlMigrationAwareDriverAdapterFactory {
  readonly provider = 'postgres'
  readonly adapterName = '@prisma/adapter-pg'
  readonly #pool: pg.Pool
  readonly #migrations: readonly Migration[]
  #begun: Migration | undefined
  /** Why the last script failed; the engine's own account of it advises what is done here already. */
  failure: MigrationError | undefined

  constructor (pool: pg.Pool, migrations: readonly Migration[]) {
    this.#pool = pool
    this.#migrations = migrations
  }

  async connect (): Promise<SqlDriverAdapter> {
    const adapter = await new PrismaPg(this.#pool).connect()
    return {
      provider: this.provider,
      adapterName: this.adapterName,
      executeScript: script => this.#run(script),
      queryRaw: query => this.#isBeginning(query) ? this.#begin(adapter, query) : adapter.queryRaw(query),
      executeRaw: query => adapter.executeRaw(query),
      startTransaction: isolation => adapter.startTransaction(isolation),
      getConnectionInfo: () => adapter.getConnectionInfo(),
      dispose: () => adapter.dispose()
    }
  }

  // Applying needs none. Prisma's own would work on the main database, where it is given a connection string.
  connectToShadowDb (): Promise<SqlDriverAdapter> {
    return Promise.reject(new Error('there is no shadow database here'))
  }

  /** Whether it is the engine's `INSERT INTO "_prisma_migrations"`, which begins a migration's record. */
  #isBeginning ({ sql, args }: SqlQuery): boolean {
    if (!/^insert into\b.*"_prisma_migrations"/i.test(sql)) return false
    this.#begun = this.#migrations.find(({ name }) => args.includes(name))
    return this.#begun !== undefined && runsInOneTransaction(this.#begun.script)
  }

  async #begin (adapter: SqlDriverAdapter, query: SqlQuery): Promise<SqlResultSet> {
    await this.#pool.query('begin')
    const result = await adapter.queryRaw(query)
    await this.#pool.query(`update _prisma_migrations set logs = ${literal(ONE_TRANSACTION)} where ${this.#record()}`)
    await this.#pool.query('commit')
    return result
  }

  async #run (script: string): Promise<void> {
    const inOne = this.#begun?.script === script && runsInOneTransaction(script)
    // Not by pool.query(), which ends the session, and so gives up the lock, when a statement fails.
    const session = await this.#pool.connect()
    try {
      // Qualified, as a script may set the search path.
      const { rows } = await session.query<{ schema: string }>('select quote_ident(current_schema()) as schema')
      const finish = `update ${rows[0]?.schema}._prisma_migrations set finished_at = now(), logs = null ` +
        `where ${this.#record()}`
      await session.query(inOne ? `${script}\n;${finish}` : script)
    } catch (error) {
      const isUndone = inOne && isAnswer(error)
      if (isUndone) await session.query(`update _prisma_migrations set rolled_back_at = now() where ${this.#record()}`)
      if (this.#begun !== undefined) this.failure = failed(this.#begun, isUndone, error)
      throw driverError(error)
    } finally {
      session.release()
    }
  }

  #record (): string {
    return `migration_name = ${literal(this.#begun?.name ?? '')} and finished_at is null and rolled_back_at is null`
  }
}

/** Whether the statement failed, and not the session. */
function isAnswer (error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError && !/^(08|57P)/.test(error.code ?? '')
}

function failed ({ name, script }: Migration, isUndone: boolean, error: unknown): MigrationError {
  if (!isAnswer(error)) {
    return new MigrationError('failed',
      `Migration ${name} was cut off: ${error instanceof Error ? error.message : String(error)}. The next start finds ` +
      'out whether Postgres committed it, and goes on from there.', { cause: error })
  }
  const line = error.position === undefined ? '' : `, line ${script.slice(0, Number(error.position)).split('\n').length}`
  return new MigrationError('failed',
    `A migration failed: ${name}, ${error.message} (SQLSTATE ${error.code}${line}). ` + (isUndone
      ? 'Postgres took all of it back, and none after it was applied. Correct it, or what it met in the database, and ' +
        'start again.'
      : advice(name)), { cause: error })
}

function unknownOutcome (name: string): MigrationError {
  return new MigrationError('unknown-outcome',
    `Migration ${name} was begun earlier and its record was never finished. ${advice(name)}`)
}

function advice (name: string): string {
  return 'How much of it is in place cannot be told from here, and nothing more was applied. Look at the database; ' +
    `then, where all of it is there, \`npm run db:migrate -- --applied ${name}\`, or where none of it is, ` +
    `\`npm run db:migrate -- --rolled-back ${name}\`.`
}

function literal (text: string): string {
  return pg.escapeLiteral(text)
}
