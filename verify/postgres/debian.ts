import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const installations = '/usr/lib/postgresql'

/**
 * The folder of the newest PostgreSQL of Debian's packages; undefined if there is none. It has programs that the embedded
 * Postgres lacks, such as pg_dump, pg_basebackup and pg_rewind.
 */
export function debianPostgres (): string | undefined {
  if (!existsSync(installations)) return undefined
  const [newest] = readdirSync(installations).map(Number).filter(version => existsSync(join(installations, String(version), 'bin/postgres'))).sort((a, b) => b - a)
  return newest === undefined ? undefined : join(installations, String(newest), 'bin')
}
