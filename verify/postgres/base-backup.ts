import { chown, copyFile, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Account } from '../../postgres/account.ts'
import type { PostgresServer } from './server.ts'

type Owner = Account['owner']

/** Files that each server makes itself, or must not take from another: PostgreSQL's manual, "Backing Up the Data Directory". */
const emptied = new Set(['pg_dynshmem', 'pg_notify', 'pg_replslot', 'pg_serial', 'pg_snapshots', 'pg_stat_tmp', 'pg_subtrans', 'pg_wal'])
const omitted = /^(postmaster\.(pid|opts)|pgsql_tmp.*|standby\.signal|backup_label)$/

/** Copies the data folder of a running server by the low-level backup API: the embedded Postgres has no pg_basebackup. */
export async function baseBackup (server: PostgresServer, destination: string, owner: Owner): Promise<void> {
  await server.session(async client => {
    // The session must stay open until the backup is stopped, or Postgres aborts the backup.
    await client.query("SELECT pg_backup_start('verify', fast => true)")
    await copyFolder(server.data, destination, owner)
    const { rows } = await client.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(wait_for_archive => false)')
    const label = join(destination, 'backup_label')
    await writeFile(label, rows[0]?.labelfile ?? '')
    if (owner !== undefined) await chown(label, owner.uid, owner.gid)
  })
}

async function copyFolder (source: string, destination: string, owner: Owner): Promise<void> {
  await makeFolder(destination, owner)
  for (const entry of await readdir(source, { withFileTypes: true })) {
    const from = join(source, entry.name)
    const to = join(destination, entry.name)
    if (omitted.test(entry.name)) continue
    if (emptied.has(entry.name)) await makeFolder(to, owner)
    else if (entry.isDirectory()) await copyFolder(from, to, owner)
    else await copyUnlessGone(from, to, owner)
  }
}

async function makeFolder (path: string, owner: Owner): Promise<void> {
  await mkdir(path, { mode: 0o700 })
  if (owner !== undefined) await chown(path, owner.uid, owner.gid)
}

async function copyUnlessGone (from: string, to: string, owner: Owner): Promise<void> {
  try {
    await copyFile(from, to)
  } catch (error) {
    // The file was removed meanwhile; the log that the copy replays removes it, too.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
    throw error
  }
  if (owner !== undefined) await chown(to, owner.uid, owner.gid)
}
