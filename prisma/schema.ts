import pg from 'pg'
import { MigrationError } from './migration-error.ts'
import type { Migration } from './migration-files.ts'
import { readHistory } from './migration-history.ts'

/**
 * The schema of the service's tables: the first on the search path, which `?schema=` of DATABASE_URL, its `options`, the role
 * and the database can set. If `?schema=` names one, it is that one, which may not exist yet, or an error.
 *
 * @throws MigrationError 'no-schema'
 */
export async function schemaOf (database: Pick<pg.ClientBase, 'query'>, url: string): Promise<string> {
  const asked = new URL(url).searchParams.get('schema') || undefined
  const { rows: [found] } = await database.query<{ current: string | null, path: string, exists: boolean }>(`
    SELECT current_schema() AS current, current_setting('search_path') AS path,
           EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS exists`, [asked ?? ''])
  const { current = null, path = '', exists = false } = found ?? {}

  if (asked === undefined) {
    if (current !== null) return current
    throw new MigrationError('no-schema',
      `The search path of this connection (${path}) names no schema that exists and that the user may use. Nothing was applied. ` +
      'Create it (CREATE SCHEMA), or name one as ?schema= in DATABASE_URL, which the start creates.')
  }
  if (current === asked || (current === null && !exists)) return asked
  throw new MigrationError('no-schema', current === null
    ? `DATABASE_URL names the schema "${asked}", but the user may not use it. Nothing was applied. GRANT USAGE, CREATE ON SCHEMA "${asked}" TO the user.`
    : `DATABASE_URL names the schema "${asked}", but the connection uses "${current}" (search path: ${path}). Nothing was applied. If a ` +
      'pooler in between leaves out what connections ask for, set the path for the database there, as in PgBouncer ' +
      `connect_query='SET search_path = ${asked}', and leave ?schema= out of DATABASE_URL.`)
}

/**
 * Creates the schema if it does not exist. Refuses to do so beside a `public` with these migrations: earlier versions ignored
 * `?schema=`, and if their orders were out of sight, a key could be used twice.
 *
 * @throws MigrationError 'not-empty'
 */
export async function makeSchema (session: pg.Client, schema: string, migrations: readonly Migration[]): Promise<void> {
  // Without IF NOT EXISTS, which requires a right that the owner of an existing schema need not have.
  const { rows: [found] } = await session.query<{ exists: boolean, twin: boolean | null }>(`
    SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS exists,
           has_table_privilege(to_regclass('public._prisma_migrations'), 'select') AS twin`, [schema])
  if (found?.exists === true) return
  if (found?.twin === true) {
    const { finished } = await readHistory(session, 'public')
    if (migrations.some(({ name }) => finished.has(name))) {
      throw new MigrationError('not-empty',
        `DATABASE_URL names the schema "${schema}", which does not exist, and the schema "public" has this service's tables: earlier versions ` +
        'ignored ?schema=. Nothing was applied. If you mean those tables, take ?schema= out of DATABASE_URL. If you want ' +
        `another tenant beside them, create its schema and start again: CREATE SCHEMA ${pg.escapeIdentifier(schema)}`)
    }
  }
  await session.query(`CREATE SCHEMA ${pg.escapeIdentifier(schema)}`)
}

/**
 * Refuses a schema with another program's tables, as `prisma migrate deploy` does (P3005): DATABASE_URL may be wrong. Ignores
 * the tables of extensions.
 *
 * @throws MigrationError 'not-empty'
 */
export async function refuseStrangers (session: pg.Client, schema: string, migrations: readonly Migration[]): Promise<void> {
  const { rows } = await session.query<{ name: string, database: string }>(`
    SELECT relname AS name, current_database() AS database FROM pg_class
     WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1) AND relkind IN ('r', 'p', 'v', 'm', 'f')
       AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')
     ORDER BY relname`, [schema])
  const [some] = rows
  if (some === undefined) return
  const names = rows.slice(0, 3).map(({ name }) => name).join(', ') + (rows.length > 3 ? `, and ${rows.length - 3} more` : '')
  throw new MigrationError('not-empty',
    `The schema "${schema}" of the database "${some.database}" holds tables (${names}) but no record of a migration. It seems to belong ` +
    'to another program. Nothing was applied. If DATABASE_URL is right, give the service a schema of its own there: add ' +
    '?schema=last_orders to DATABASE_URL, and the start creates it. If these are the service\'s own tables, restored without ' +
    `_prisma_migrations, say which migrations are in place: \`npm run db:migrate -- --applied ${migrations[0]?.name ?? '<name>'}\`, with another --applied for each.`)
}
