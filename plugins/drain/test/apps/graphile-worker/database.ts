import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import { startEmbeddedPostgres } from '../../../../../postgres/embedded.ts'

export interface Database {
  url: string
  query (text: string): Promise<Array<Record<string, unknown>>>
  drop (): Promise<void>
}

/** A database of its own, in TEST_DATABASE_URL's server or in the repository's embedded one. */
export async function createDatabase (): Promise<Database> {
  const server = await openServer()
  const name = `recipe_${randomBytes(4).toString('hex')}`
  await query(server.url, `CREATE DATABASE ${name}`)
  const url = new URL(server.url)
  url.pathname = `/${name}`
  return {
    url: url.href,
    query: text => query(url.href, text),
    async drop () {
      await query(server.url, `DROP DATABASE ${name} WITH (FORCE)`)
      await server.release()
    }
  }
}

async function openServer (): Promise<{ url: string, release (): Promise<void> }> {
  const { TEST_DATABASE_URL: url = '' } = process.env
  if (url !== '') return { url, release: async () => {} }
  return await startEmbeddedPostgres({ directory: join(import.meta.dirname, '../.cache/postgres') })
}

async function query (connectionString: string, text: string): Promise<Array<Record<string, unknown>>> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query<Record<string, unknown>>(text)).rows
  } finally {
    await client.end()
  }
}
