import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import pg from 'pg'
import { embeddedDirectory } from './database.ts'
import { startEmbeddedPostgres } from './embedded-postgres.ts'
import { LOCKFILE, LOCKFILE_CONTENT, migrationList, migrationsDirectory, readMigrations, type Migration } from './migration-files.ts'
import { MigrationError } from './migration-error.ts'
import { DescribedDatabase } from './described-database.ts'
import { everything, openSchemaEngine } from './schema-engine.ts'

export interface DiffOptions {
  /** A server on which a scratch database may be made. */
  url: string
  /** What the migration does, in lower-case letters, digits and underscores. */
  name: string
  /** Default: the repository's prisma/migrations. */
  directory?: string | undefined
  /** A file; default: the repository's prisma/schema.prisma. */
  schema?: string | undefined
}

/**
 * Writes the migration from what the existing ones make to what the schema says.
 *
 * What a schema cannot say is left alone: functions, triggers, checks, partial indexes and indexes on expressions the
 * engine does not see, and that it would drop an index with INCLUDE or an unusual order of nulls is taken out again.
 *
 * @returns the file it wrote; undefined where there is no difference
 * @throws MigrationError
 */
export async function diff (
  { url, name, directory = migrationsDirectory, schema = join(import.meta.dirname, 'schema.prisma') }: DiffOptions
): Promise<string | undefined> {
  if (!/^[a-z][a-z0-9_]{0,199}$/.test(name)) {
    throw new MigrationError('bad-name',
      `"${name}" is no name for a migration: it takes lower-case letters, digits and underscores, as in ` +
      '`npm run db:diff -- add_order_note`. Nothing was written.')
  }
  const migrations = existsSync(directory) ? readMigrations(directory) : []
  const script = await compare(url, migrations, directory, schema)
  if (script === undefined) return undefined

  const folder = join(directory, `${timestamp(migrations)}_${name}`)
  mkdirSync(folder, { recursive: true })
  if (!existsSync(join(directory, LOCKFILE))) writeFileSync(join(directory, LOCKFILE), LOCKFILE_CONTENT)
  const file = join(folder, 'migration.sql')
  writeFileSync(file, script, { flag: 'wx' })
  return file
}

async function compare (
  url: string, migrations: readonly Migration[], directory: string, schema: string
): Promise<string | undefined> {
  return await withScratchDatabase(url, async pool => {
    const engine = await openSchemaEngine(new DescribedDatabase(pool))
    try {
      const { stdout } = await engine.diff({
        from: { tag: 'migrations', ...migrationList(migrations, directory) },
        to: { tag: 'schemaDatamodel', files: [{ path: schema, content: readFileSync(schema, 'utf8') }] },
        script: true,
        exitCode: null,
        filters: everything
      })
      return withoutDropsOf(await unsayableIndexes(pool), stdout ?? '')
    } finally {
      engine.free()
    }
  })
}

async function withScratchDatabase<T> (url: string, use: (pool: pg.Pool) => Promise<T>): Promise<T> {
  const name = `diff_${process.pid}_${randomBytes(4).toString('hex')}`
  const server = new pg.Client({ connectionString: url })
  try {
    await server.connect()
    await server.query(`create database ${name} template template0`)
    const scratch = new URL(url)
    scratch.pathname = `/${name}`
    const pool = new pg.Pool({ connectionString: scratch.href, max: 1 })
    try {
      return await use(pool)
    } finally {
      await pool.end()
      await server.query(`drop database ${name} with (force)`)
    }
  } catch (error) {
    throw MigrationError.from(error, url)
  } finally {
    await server.end()
  }
}

/**
 * Indexes that a schema can neither say nor leave unsaid: the engine sees them, by their columns alone. (The two lowest
 * bits of indoption: descending, nulls first; an order's own default has both or neither.)
 */
async function unsayableIndexes (pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(`
    select '"' || replace(class.relname, '"', '""') || '"' as name
    from pg_index as index join pg_class as class on class.oid = index.indexrelid
    where class.relnamespace = current_schema()::regnamespace and (
      index.indnatts > index.indnkeyatts or
      exists (select from unnest(index.indoption) as option where option & 3 in (1, 2)))`)
  return rows.map(row => row.name)
}

/** The script without those drops, and with what a reader should know; undefined where nothing is left of it. */
function withoutDropsOf (indexes: readonly string[], script: string): string | undefined {
  const steps = script.split(/^(?=-- [A-Z]\w+$)/m).map(step => step.trim())
  const kept = indexes.filter(index => steps.includes(`-- DropIndex\nDROP INDEX ${index};`))
  const rest = steps.filter(step => !kept.some(index => step === `-- DropIndex\nDROP INDEX ${index};`))
    .filter(step => step !== '' && step !== '-- This is an empty migration.')
  if (rest.length === 0) return undefined

  const notes = [
    ...(rest.some(step => /\bDROP (TABLE|COLUMN)\b/.test(step)) ? ['-- Drops a table or a column, with all that is in it.'] : []),
    ...kept.map(index => `-- Keeps index ${index}, of which the schema cannot say all. Where it should go, drop it here.`)
  ]
  return [...(notes.length === 0 ? [] : [notes.join('\n')]), ...rest].join('\n\n') + '\n'
}

/** Of now, in UTC; but after the last migration's, whatever the clock says: names are the order of application. */
function timestamp (migrations: readonly Migration[]): string {
  const now = Number(new Date().toISOString().replace(/\D/g, '').slice(0, 14))
  const last = parseInt(migrations.at(-1)?.name ?? '0')
  return String(Math.max(now, last + 1))
}

async function main (name: string): Promise<void> {
  const database = await startEmbeddedPostgres({ directory: embeddedDirectory })
  try {
    const file = await diff({ url: database.url, name })
    console.log(file === undefined
      ? 'no difference: the migrations make what the schema says'
      : `wrote ${relative(process.cwd(), file)}: read it, then \`npm run db:migrate\``)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main(process.argv[2] ?? '').catch((error: Error) => {
    console.error(error.message)
    process.exitCode = 1
  })
}
