import { join } from 'node:path'
import { startEmbeddedPostgres } from './embedded-postgres.ts'

/** The repository's own embedded Postgres. */
export const embeddedDirectory = join(import.meta.dirname, '../.data/postgres')

export interface Database {
  url: string
  /** Where its data are, if it is the embedded one. */
  embeddedIn: string | undefined
  /** To be called once one's own connections are closed. */
  release: () => Promise<void>
}

/**
 * The database at the URL, or the embedded Postgres where there is none.
 *
 * @throws EmbeddedPostgresError
 */
export async function openDatabase ({ url, log }: { url: string | undefined, log: (line: string) => void }): Promise<Database> {
  if (url !== undefined) return { url, embeddedIn: undefined, release: async () => {} }
  return { ...await startEmbeddedPostgres({ directory: embeddedDirectory, log }), embeddedIn: embeddedDirectory }
}
