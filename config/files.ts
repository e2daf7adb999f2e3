import { hash } from 'node:crypto'
import { watch } from 'node:fs'
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import { isSame, SourceError, type Snapshot, type Source } from './source.ts'

/** The source reads again after this time, in ms, because the file system may not report a change. */
const pollMs = 10_000

/** Files are often written one after another, so the source waits this long after a change before it reads, in ms. */
const settleMs = 50

/** kubelet makes this link in a mounted folder, and swaps it as a whole, so all files behind it belong together. */
const swapped = '..data'

const settingName = /^[A-Z][A-Z0-9_]*$/

/**
 * A folder in which each file is named after a setting, as Kubernetes mounts a ConfigMap; or one file in the form of `.env`. In a
 * folder it ignores files with other names.
 */
export function filesSource (url: URL): Source {
  const path = fileURLToPath(url)

  async function read (): Promise<Snapshot> {
    let values: Record<string, string>
    try {
      values = (await stat(path)).isDirectory() ? await valuesIn(path) : settingsOf(await readFile(path, 'utf8'))
    } catch (error) {
      throw new SourceError(`it cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'})`)
    }
    return { values, version: `content ${hash('sha256', JSON.stringify(values)).slice(0, 12)}` }
  }

  return {
    name: url.href,
    read,
    async next (after, signal) {
      for (;;) {
        // Watches before it reads, so that it misses no change in between.
        const watching = watchPath(path, signal)
        try {
          const snapshot = await read()
          if (!isSame(snapshot, after)) return snapshot
          await watching.changed
          signal.throwIfAborted()
        } finally {
          watching.close()
        }
      }
    }
  }
}

/** The settings in a text in the form of `.env`. */
export function settingsOf (text: string): Record<string, string> {
  return Object.fromEntries(Object.entries(parseEnv(text)).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]))
}

/** `changed` resolves when something there may have changed; it never rejects. */
export function watchPath (path: string, signal: AbortSignal): { changed: Promise<void>, close (): void } {
  const { promise: told, resolve: tell } = Promise.withResolvers<void>()
  const closing = new AbortController()
  const ended = AbortSignal.any([signal, closing.signal])
  // Watches the folder too, because a watch of a file stays with the old file when a new one replaces it.
  const watchers = [path, dirname(path)].flatMap(folder => {
    try {
      const watcher = watch(folder, { persistent: false }, (_event, name) => { if (folder === path || name === basename(path) || name === swapped) tell() })
      return [watcher.on('error', () => tell())]
    } catch {
      return []
    }
  })
  const pause = async (ms: number): Promise<void> => await delay(ms, undefined, { ref: false, signal: ended }).catch(() => {})
  return {
    changed: Promise.race([told, pause(pollMs)]).then(async () => await pause(settleMs)),
    close () {
      closing.abort()
      for (const watcher of watchers) watcher.close()
    }
  }
}

async function valuesIn (folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder)
  // Resolves the link first, so that a swap meanwhile cannot mix old and new files.
  const behind = names.includes(swapped) ? join(folder, swapped) : folder
  const target = behind === folder ? folder : join(folder, await readlink(behind))
  const settings = (await readdir(target)).filter(name => settingName.test(name)).sort()
  return Object.fromEntries(await Promise.all(settings.map(async name => [name, (await readFile(join(target, name), 'utf8')).trim()])))
}
