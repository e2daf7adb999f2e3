import { createHash, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../postgres/embedded.ts'
import { migrate } from '../prisma/migrate.ts'
import { readMigrations } from '../prisma/migration-files.ts'
import type { Binaries } from '../postgres/binaries.ts'
import { withClient } from '../postgres/with-client.ts'

/** No test run uses a database for longer than this, in ms. */
const abandonedMs = 3_600_000

/** The time zone of every test's database: far from UTC, and not by whole hours, so that code that is right only in UTC fails. */
export const timeZone = 'Asia/Kathmandu'

/** A session that makes a database holds this lock, so that the template is made once and is not dropped meanwhile. */
const templateLock = 5_201_316

/**
 * Makes a database for the test: migrated, unless it is to be `empty`. When the test ends, it is dropped together with its open
 * sessions.
 */
export async function createTestDatabase (
  t: { teardown (end: () => Promise<void>): unknown },
  { empty = false }: { empty?: boolean } = {}
): Promise<{ url: string }> {
  const server = await openTestServer()
  const name = `test_${Date.now().toString(36)}_${randomBytes(4).toString('hex')}`
  t.teardown(async () => {
    await withClient(server.url, client => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
    await server.release()
  })
  await withClient(server.url, async client => {
    await dropAbandoned(client)
    await client.query('SELECT pg_advisory_lock($1)', [templateLock])
    const template = empty ? 'template0' : await ensureTemplate(client, server.url)
    await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`)
    await client.query(`ALTER DATABASE ${name} SET timezone TO '${timeZone}'`)
  })
  return { url: databaseUrl(server.url, name) }
}

/** Allows or forbids connections to a test's database. */
export async function allowConnections (url: string, allow: boolean): Promise<void> {
  const name = new URL(url).pathname.slice(1)
  await withClient(databaseUrl(url, 'postgres'), client => client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS ${allow}`))
}

/**
 * The server of the tests: the one of TEST_DATABASE_URL, whose user must be able to create databases, or an embedded one. The
 * first test file starts the embedded one, files beside it join, and the last one stops it. Its data stay for the next run, and
 * with them the template.
 */
async function openTestServer (): Promise<{ url: string, release (): Promise<void> }> {
  const { TEST_DATABASE_URL: url = '' } = process.env
  if (url !== '') return { url, release: async () => {} }
  return await startEmbeddedPostgres({ directory: join(import.meta.dirname, '../.data/test-postgres') })
}

/** The folder with the programs of Debian's PostgreSQL. */
export const debianPostgres = '/usr/lib/postgresql/15/bin'

/** The programs of a PostgreSQL other than npm's; undefined if the folder has none. */
export function binariesIn (folder: string): Binaries | undefined {
  const binaries = { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') }
  return Object.values(binaries).every(program => existsSync(program)) ? binaries : undefined
}

/** Every test's database is a copy of this one. It gets its name when it is complete, so a database with this name is complete. */
async function ensureTemplate (client: pg.Client, server: string): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(readMigrations())).digest('hex').slice(0, 12)
  const name = `template_${hash}`
  const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [name])
  if (rowCount !== 0) return name

  // These are of earlier migrations, or of a run that was aborted here.
  const { rows: old } = await client.query<{ datname: string }>("SELECT datname FROM pg_database WHERE datname ~ '^template_'")
  for (const { datname } of old) await client.query(`DROP DATABASE ${datname} WITH (FORCE)`)
  await client.query(`CREATE DATABASE ${name}_new TEMPLATE template0`)
  await migrate({ url: databaseUrl(server, `${name}_new`) })
  await client.query(`ALTER DATABASE ${name}_new RENAME TO ${name}`)
  return name
}

/** Drops the databases that aborted runs left. */
async function dropAbandoned (client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ datname: string }>("SELECT datname FROM pg_database WHERE datname ~ '^test_'")
  for (const { datname } of rows) {
    const [, made = ''] = datname.split('_')
    if (Date.now() - parseInt(made, 36) < abandonedMs) continue
    try {
      await client.query(`DROP DATABASE IF EXISTS ${datname}`)
    } catch (error) {
      // Still in use, or another test file drops it at this moment.
      const isTaken = error instanceof pg.DatabaseError && ['55006', 'XX000', '3D000'].includes(error.code ?? '')
      if (!isTaken) throw error
    }
  }
}

function databaseUrl (server: string, name: string): string {
  const url = new URL(server)
  url.pathname = `/${name}`
  return url.href
}
