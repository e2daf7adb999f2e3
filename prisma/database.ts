import { join } from 'node:path'
import { startEmbeddedPostgres } from '../postgres/embedded.ts'

/** The repository's own embedded Postgres. */
export const embeddedDirectory = join(import.meta.dirname, '../.data/postgres')

export interface Database {
  url: string
  /** The data folder of the embedded one; undefined for others. */
  embeddedIn: string | undefined
  /** Call it after your own connections are closed. */
  release: () => Promise<void>
}

/**
 * The database at the URL, or the embedded Postgres without one.
 *
 * @throws EmbeddedPostgresError
 */
export async function openDatabase ({ url, log }: { url: string | undefined, log: (line: string) => void }): Promise<Database> {
  if (url !== undefined) return { url, embeddedIn: undefined, release: async () => {} }
  return { ...await startEmbeddedPostgres({ directory: embeddedDirectory, log }), embeddedIn: embeddedDirectory }
}
