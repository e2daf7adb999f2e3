import { chownSync, closeSync, existsSync, fsyncSync, mkdtempSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Programs } from './account.ts'
import { signalProcess } from './postmaster.ts'

/**
 * Makes the data folder of a new Postgres. initdb works in a folder of its own, and a rename makes it the data folder. So an
 * interruption leaves all of it or nothing, and of two concurrent calls the slower one finds the folder of the faster one.
 *
 * @param options of initdb: who may connect, the locale
 * @throws Error with the end of initdb's output
 */
export async function createDataFolder ({ initdb, account }: Programs, data: string, options: readonly string[]): Promise<void> {
  let fresh: string | undefined
  try {
    fresh = mkdtempSync(`${prefixOf(data)}${process.pid}-`)
    if (account.owner !== undefined) chownSync(fresh, account.owner.uid, account.owner.gid)
    const { code, output } = await account.run(initdb, ['-D', fresh, '-U', 'postgres', '--encoding=UTF8', '--locale=C', ...options])
    if (code !== 0) throw new Error(output.trim().split('\n').slice(-6).join('\n'))
    renameSync(fresh, data)
    fresh = undefined
    syncFolder(dirname(data))
  } catch (error) {
    if (!existsSync(data)) throw error
  } finally {
    if (fresh !== undefined) rmSync(fresh, { recursive: true, force: true })
  }
}

/** Removes what killed calls left behind. A folder whose process lives belongs to a call under way. */
export function removeAbandoned (data: string): void {
  const prefix = basename(prefixOf(data))
  for (const name of readdirSync(dirname(data))) {
    const pid = Number(name.slice(prefix.length).split('-')[0])
    if (!name.startsWith(prefix) || signalProcess(pid, 0)) continue
    try {
      rmSync(join(dirname(data), name), { recursive: true, force: true })
    } catch {
      // An initdb that outlived its program still works there. A later start removes the folder.
    }
  }
}

function prefixOf (data: string): string {
  return `${data}.new-`
}

function syncFolder (path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
