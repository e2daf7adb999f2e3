import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MigrationError } from './migration-error.ts'

export interface Migration {
  /** The name of its folder, `<timestamp>_<what>`: the order of names is the order of application. */
  name: string
  script: string
  /** SHA-256 of the file in hexadecimal, as in `_prisma_migrations`. */
  checksum: string
  /** Whether it runs as one transaction, with its record: false if the comment at its head has the line `-- no-transaction`. */
  isTransaction: boolean
}

export function isTransaction (script: string): boolean {
  return !/^(\s*--.*\n)*?\s*-- no-transaction[ \t\r]*(\n|$)/.test(script)
}

/** The repository's own. */
export const migrationsDirectory = join(import.meta.dirname, 'migrations')

/**
 * The migrations of a folder, in order.
 *
 * @throws MigrationError 'bad-folder' if the folder, or a script in it, cannot be read.
 */
export function readMigrations (directory: string = migrationsDirectory): Migration[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name)
      .sort()
      .map(name => {
        const file = readFileSync(join(directory, name, 'migration.sql'))
        const script = file.toString()
        return { name, script, checksum: createHash('sha256').update(file).digest('hex'), isTransaction: isTransaction(script) }
      })
  } catch (cause) {
    throw new MigrationError('bad-folder',
      `The migrations in ${directory} cannot be read (${(cause as Error).message}). Nothing was applied. Each ` +
      'migration must be a folder with a migration.sql in it.', { cause })
  }
}
