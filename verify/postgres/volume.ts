import { spawnSync } from 'node:child_process'
import { chown, mkdir, statfs } from 'node:fs/promises'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ownAccount, type Account } from '../../postgres/account.ts'
import { UserError } from '../../user-error.ts'

/** A limit: the disk takes only as much memory as is written to it. */
const size = '4g'

/** A disk in memory for one server, which can be filled. */
export class Volume {
  readonly path: string

  private constructor (path: string) {
    this.path = path
  }

  /** @throws Error if mounting is not permitted */
  static async mount (path: string, owner: Account['owner']): Promise<Volume> {
    await mkdir(path)
    await mount('-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'last-orders-verify', path)
    if (owner !== undefined) await chown(path, owner.uid, owner.gid)
    return new Volume(path)
  }

  /** Takes all free room. Concurrent writes may disturb it once or twice. */
  async fill (): Promise<void> {
    for (let tries = 1; ; tries++) {
      const { blocks, bfree, bsize } = await statfs(this.path)
      try {
        await mount('-o', `remount,size=${(blocks - bfree) * bsize}`, this.path)
        return
      } catch (error) {
        if (tries === 20) throw error
      }
    }
  }

  /** Gives the room back. */
  async free (): Promise<void> {
    await mount('-o', `remount,size=${size}`, this.path)
  }

  /** Unmounts it, even if killed processes hold it for a moment longer. Does not wait, for an exit handler. */
  unmountNow (): void {
    spawnSync('umount', ['-l', this.path])
  }
}

/** Why this machine cannot have such a disk; undefined if it can. */
export function volumeMissing (): string | undefined {
  const probe = mkdtempSync(join(tmpdir(), 'last-orders-verify-'))
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'last-orders-verify', probe])
  if (status === 0) spawnSync('umount', [probe])
  rmdirSync(probe)
  return status === 0 ? undefined : 'A small disk cannot be mounted: run it as root on Linux, in a container with CAP_SYS_ADMIN.'
}

async function mount (...args: string[]): Promise<void> {
  const { code, output } = await ownAccount().run('mount', args)
  if (code !== 0) throw new UserError(`mount ${args.join(' ')} failed, and nothing was changed: ${output.trim()}`)
}
