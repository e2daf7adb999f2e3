import { execFileSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { forPeople, UserError } from '../user-error.ts'
import { migrationsDirectory, readMigrations, type Migration } from './migration-files.ts'
import { faultsOf, type Fault } from './rolling-rules.ts'

export interface CheckOptions {
  /** Default: the repository's prisma/migrations. */
  directory?: string | undefined
  /** The deployed version, as git names it. Default: the last tag v*; without one, all but the first migration are new. */
  base?: string | undefined
}

export interface Checked {
  /** What the migrations were compared with; undefined: nothing was released yet. */
  base: string | undefined
  /** The names of the migrations that the base does not have. */
  added: string[]
  faults: Array<Fault & { file: string }>
}

/**
 * Looks for statements that would break the deployed version: it goes on serving while the new migrations are applied, until
 * its last instance is replaced.
 *
 * @throws MigrationError if the migrations cannot be read, Error if git does not know the base
 */
export async function checkMigrations ({ directory = migrationsDirectory, base = lastRelease(directory) }: CheckOptions = {}): Promise<Checked> {
  const migrations = readMigrations(directory)
  const released = base === undefined ? new Map(migrations.slice(0, 1).map(({ name, script }) => [name, script])) : releasedIn(directory, base)
  const fileOf = (name: string): string => relative(process.cwd(), join(directory, name, 'migration.sql'))

  const added = migrations.filter(({ name }) => !released.has(name))
  const found = await Promise.all(added.map(async ({ name, script }) => (await faultsOf(script)).map(fault => ({ ...fault, file: fileOf(name) }))))
  return {
    base,
    added: added.map(({ name }) => name),
    faults: [...editsOf(released, migrations).map(fault => ({ ...fault, file: fileOf(fault.name) })), ...found.flat()]
  }
}

/** From the parent commit on, so that on the tag of a release it finds the previous one. */
function lastRelease (directory: string): string | undefined {
  try {
    return git(directory, 'describe', '--tags', '--abbrev=0', '--match', 'v[0-9]*', 'HEAD^').trim()
  } catch {
    return undefined
  }
}

function releasedIn (directory: string, base: string): Map<string, string> {
  const folders = git(directory, 'ls-tree', '-d', '--name-only', base).split('\n').filter(name => name !== '')
  return new Map(folders.map(name => [name, git(directory, 'show', `${base}:./${name}/migration.sql`)]))
}

function editsOf (released: Map<string, string>, migrations: Migration[]): Array<Fault & { name: string }> {
  const now = new Map(migrations.map(({ name, script }) => [name, script]))
  return [...released].filter(([name, script]) => now.get(name) !== script).map(([name]) => ({
    name,
    line: 1,
    why: 'It was released, and was changed or removed since. Databases that have it will not run it again.',
    instead: 'Restore it, and make the change in a new migration.',
    safeBecause: undefined
  }))
}

function git (directory: string, ...args: string[]): string {
  try {
    return execFileSync('git', ['-C', directory, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    throw new UserError((error as Error).message.trim(), { cause: error })
  }
}

async function main (): Promise<void> {
  const { values: { base } } = parseArgs({ options: { base: { type: 'string' } } })
  const checked = await checkMigrations({ base })
  const since = checked.base ?? 'the first one'
  const accepted = checked.faults.filter(({ safeBecause }) => safeBecause !== undefined)
  const refused = checked.faults.filter(({ safeBecause }) => safeBecause === undefined)

  for (const { file, line, why, safeBecause } of accepted) console.log(`${file}:${line}: accepted. ${why} Safe because: ${safeBecause}`)
  for (const { file, line, why, instead } of refused) console.error(`${file}:${line}: ${why}\n  ${instead}`)
  if (refused.length === 0) {
    console.log(`${checked.added.length} migrations since ${since}: none breaks the previous version.`)
    return
  }
  console.error(`${refused.length} of these would break the previous version (migrations since ${since}). Nothing was changed.\n` +
    'docs/upgrading.md has the steps. If a statement is safe, give the reason in a line above it: -- safe-because: …')
  process.exitCode = 1
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main().catch((error: unknown) => {
    console.error('The migrations were not checked:', forPeople(error))
    process.exitCode = 2
  })
}
