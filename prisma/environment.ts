import { realpathSync } from 'node:fs'
import pg from 'pg'
import { databaseUrlOf, environmentOf } from '../config.ts'
import { readLayers } from '../config/layers.ts'
import { openDatabase } from './database.ts'
import { MigrationError, printable } from './migration-error.ts'
import { schemaOf } from './schema.ts'
import { UtcClient } from './utc-client.ts'

type Session = Pick<pg.ClientBase, 'query'>

export interface Fence {
  url: string
  schema: string
  /** Of who comes; undefined: of none. */
  environment: string | undefined
}

/**
 * Lets nobody of another environment touch the database. One isolation is left then where DATABASE_URL is wrong, and a wrong
 * DATABASE_URL is what it is for.
 *
 * @returns what the database says it is of; undefined: of none, or it is from before
 * @throws MigrationError 'other-environment'
 */
export async function requireSameEnvironment (session: Session, { url, schema, environment }: Fence): Promise<string | undefined> {
  const table = tableIn(schema)
  const { rows: [found] } = await session.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [table])
  if (found?.exists !== true) return undefined
  const { rows: [named] } = await session.query<{ name: string }>(`select name from ${table}`)
  if (named === undefined || named.name === environment) return named?.name
  const who = environment === undefined ? 'no ENVIRONMENT is set here' : `this is of "${environment}" (ENVIRONMENT)`
  throw new MigrationError('other-environment',
    `The database at ${printable(url)} is of the environment "${named.name}", and ${who}. Nothing was applied or started. ` +
    (environment === undefined ? `Set ENVIRONMENT=${named.name} where this is meant to be of it, or let` : 'Let') +
    ' DATABASE_URL lead to a database of this environment. Where it is a copy that changed hands, name it anew: npm run db:environment -- NAME')
}

/**
 * Names the database where it has no name yet. Of two that do so at once one is refused.
 *
 * @throws MigrationError 'other-environment'
 */
export async function nameEnvironment (session: Session, fence: Fence): Promise<void> {
  if (fence.environment === undefined || await requireSameEnvironment(session, fence) !== undefined) return
  await session.query(`insert into ${tableIn(fence.schema)} (name) values ($1) on conflict do nothing`, [fence.environment])
  await requireSameEnvironment(session, fence)
}

/**
 * The same for a start that migrates nothing.
 *
 * @returns what the database says it is of
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

/** Says what the database is of, or names it anew, as a copy needs it that is restored elsewhere. */
async function main ([name, ...rest]: string[]): Promise<void> {
  if (rest.length > 0 || name?.startsWith('-') === true) throw new Error('Usage: npm run db:environment [-- NAME]. Nothing was changed.')
  const settings = (await readLayers()).environment
  const database = await openDatabase({ url: databaseUrlOf(settings), log: line => console.log(line) })
  try {
    const { url } = database
    const said = await withSession(url, async (session, schema) => {
      const table = tableIn(schema)
      const { rows: [before] } = await session.query<{ name: string }>(`select name from ${table}`)
      if (name === undefined) return before === undefined ? 'The database is of no environment.' : `The database is of the environment "${before.name}".`
      environmentOf({ ENVIRONMENT: name })
      await session.query(`insert into ${table} (name) values ($1) on conflict (id) do update set name = excluded.name, named_at = now()`, [name])
      return `The database at ${printable(url)} is of the environment "${name}" now${before === undefined ? '' : `, and was of "${before.name}"`}.`
    })
    console.log(said)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main(process.argv.slice(2)).catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  })
}
