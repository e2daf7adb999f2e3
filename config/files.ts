import { hash } from 'node:crypto'
import { watch } from 'node:fs'
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseEnv } from 'node:util'
import { isSame, SourceError, type Snapshot, type Source } from './source.ts'

/** A change that nobody tells of is seen after this, in ms. */
const pollMs = 10_000

/** Files are often written one after another: what changed is read when it has been quiet for so long, in ms. */
const settleMs = 50

/** kubelet makes this link in a mounted folder, and swaps it: behind it all files are of one moment. */
const swapped = '..data'

const settingName = /^[A-Z][A-Z0-9_]*$/

/**
 * A folder in which each file is named after a setting, as Kubernetes mounts a ConfigMap; or one file in the form of `.env`.
 * What has another name is not a setting, and is left alone.
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
        // Before it is read, so that nothing changes unseen in between.
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

/** The settings that a text in the form of `.env` holds. */
export function settingsOf (text: string): Record<string, string> {
  return Object.fromEntries(Object.entries(parseEnv(text)).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]))
}

/** `changed` resolves when something has changed there, or may have, and never rejects. */
export function watchPath (path: string, signal: AbortSignal): { changed: Promise<void>, close (): void } {
  const { promise: told, resolve: tell } = Promise.withResolvers<void>()
  const closing = new AbortController()
  const ended = AbortSignal.any([signal, closing.signal])
  // The folder, not the file: a file that is swapped is another one, and a watch would stay with the old one.
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
  // Names and contents from behind the link, so that a swap meanwhile mixes nothing.
  const behind = names.includes(swapped) ? join(folder, swapped) : folder
  const target = behind === folder ? folder : join(folder, await readlink(behind))
  const settings = (await readdir(target)).filter(name => settingName.test(name)).sort()
  return Object.fromEntries(await Promise.all(settings.map(async name => [name, (await readFile(join(target, name), 'utf8')).trim()])))
}
