import { execFile } from 'node:child_process'
import { arch, cpus, release, totalmem } from 'node:os'
import { promisify } from 'node:util'
import { withClient } from '../postgres/with-client.ts'

/** The settings of Postgres that durability depends on. */
const settings = ['server_version', 'fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names', 'wal_level', 'wal_sync_method', 'max_connections']

/** The facts about the machine and the programs that a reader of a report needs. */
export async function describeEnvironment (databaseUrl: string): Promise<Record<string, string>> {
  return {
    commit: await commit(),
    node: process.version,
    system: `${process.platform} ${release()} ${arch()}`,
    processors: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    ...databaseUrl === '' ? {} : await postgresSettings(databaseUrl)
  }
}

/** The commit of the current folder. */
async function commit (): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)('git', ['describe', '--always', '--abbrev=12', '--dirty', '--exclude=*'])
    return stdout.trim()
  } catch {
    return 'unknown: no git, or not in a repository'
  }
}

async function postgresSettings (url: string): Promise<Record<string, string>> {
  const { rows } = await withClient(url, async client => await client.query<{ name: string, value: string }>(
    'SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY($1)', [settings]))
  return Object.fromEntries(rows.map(({ name, value }) => [`postgres ${name}`, value]))
}
