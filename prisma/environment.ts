import { realpathSync } from 'node:fs'
import pg from 'pg'
import { databaseUrlOf, environmentOf } from '../config.ts'
import { readLayers } from '../config/layers.ts'
import { forPeople, UserError } from '../user-error.ts'
import { openDatabase } from './database.ts'
import { MigrationError, printable } from './migration-error.ts'
import { schemaOf } from './schema.ts'
import { UtcClient } from './utc-client.ts'

type Session = Pick<pg.ClientBase, 'query'>

export interface Fence {
  url: string
  schema: string
  /** The environment of this process; undefined: none. */
  environment: string | undefined
}

/**
 * Refuses a database of another environment. This protects the data if DATABASE_URL is wrong.
 *
 * @returns the environment that the database names; undefined: none, or it has no such table yet
 * @throws MigrationError 'other-environment'
 */
export async function requireSameEnvironment (session: Session, { url, schema, environment }: Fence): Promise<string | undefined> {
  const table = tableIn(schema)
  const { rows: [found] } = await session.query<{ exists: boolean }>('SELECT to_regclass($1) IS NOT NULL AS exists', [table])
  if (found?.exists !== true) return undefined
  const { rows: [named] } = await session.query<{ name: string }>(`SELECT name FROM ${table}`)
  if (named === undefined || named.name === environment) return named?.name
  const ours = environment === undefined ? 'this process has no ENVIRONMENT' : `this process to "${environment}" (ENVIRONMENT)`
  throw new MigrationError('other-environment',
    `The database at ${printable(url)} belongs to the environment "${named.name}", and ${ours}. Nothing was applied or started. ` +
    (environment === undefined ? `Set ENVIRONMENT=${named.name} if this process belongs to it, or let` : 'Let') +
    ' DATABASE_URL lead to a database of this environment. If the database is a copy for this environment, rename it: npm run db:environment -- NAME')
}

/**
 * Names the database if it has no name yet. If two processes do so at once with different names, one is refused.
 *
 * @throws MigrationError 'other-environment'
 */
export async function nameEnvironment (session: Session, fence: Fence): Promise<void> {
  if (fence.environment === undefined || await requireSameEnvironment(session, fence) !== undefined) return
  await session.query(`INSERT INTO ${tableIn(fence.schema)} (name) VALUES ($1) ON CONFLICT DO NOTHING`, [fence.environment])
  await requireSameEnvironment(session, fence)
}

/**
 * Does the same for a start that migrates nothing.
 *
 * @returns the environment that the database names
 * @throws MigrationError
 */
export async function requireEnvironment ({ url, environment }: Omit<Fence, 'schema'>): Promise<string | undefined> {
  return await withSession(url, async (session, schema) => await requireSameEnvironment(session, { url, schema, environment }))
}

async function withSession<T> (url: string, use: (session: Session, schema: string) => Promise<T>): Promise<T> {
  const client = new UtcClient({ connectionString: url, connectionTimeoutMillis: 10_000, application_name: 'last-orders' })
  client.on('error', () => {})
  try {
    await client.connect()
    return await use(client, await schemaOf(client, url))
  } catch (error) {
    throw MigrationError.from(error, url)
  } finally {
    await client.end().catch(() => {})
  }
}

function tableIn (schema: string): string {
  return `${pg.escapeIdentifier(schema)}.environment`
}

/** Prints the database's environment, or renames it: a copy that is restored elsewhere needs a new name. */
async function main ([name, ...rest]: string[]): Promise<void> {
  if (rest.length > 0 || name?.startsWith('-') === true) throw new UserError('Usage: npm run db:environment [-- NAME]. Nothing was changed.')
  const settings = (await readLayers()).environment
  const database = await openDatabase({ url: databaseUrlOf(settings), log: line => console.log(line) })
  try {
    const { url } = database
    const message = await withSession(url, async (session, schema) => {
      const table = tableIn(schema)
      const { rows: [before] } = await session.query<{ name: string }>(`SELECT name FROM ${table}`)
      if (name === undefined) return before === undefined ? 'The database belongs to no environment.' : `The database belongs to the environment "${before.name}".`
      environmentOf({ ENVIRONMENT: name })
      await session.query(`INSERT INTO ${table} (name) VALUES ($1) ON CONFLICT (id) DO UPDATE SET name = excluded.name, named_at = now()`, [name])
      return `The database at ${printable(url)} now belongs to the environment "${name}"${before === undefined ? '' : `; before, it belonged to "${before.name}"`}.`
    })
    console.log(message)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(forPeople(error))
    process.exitCode = 1
  })
}
