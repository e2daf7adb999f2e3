import { setTimeout as delay } from 'node:timers/promises'
import { Counter, Gauge, type Registry } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { watchPath } from '../config/files.ts'
import { keepCopy, type Central, type Layers } from '../config/layers.ts'
import { isSame, type Snapshot } from '../config/source.ts'
import type { Change, Considered, RunningSettings } from '../config/running.ts'

/** How long it waits before it asks a failed source again, in ms; doubled each time up to the maximum. */
const retryMs = 500
const retryMaxMs = 15_000

/** How long it waits if a source answers at once with nothing new, in ms. */
const calmMs = 1_000

const infoIsHeard: ReadonlySet<string> = new Set(['trace', 'debug', 'info'])

export interface ReloadOptions {
  running: RunningSettings
}

export interface CentralState {
  readonly source: string
  readonly version: string
  /** When the source last answered; undefined: not since the start. */
  readonly heardAt: Date | undefined
  /** The time of the copy that is used until the source answers. */
  readonly copiedAt: Date | undefined
  /** Why it does not answer; undefined: it does. */
  readonly away: string | undefined
  /** A change that was seen and is not yet due. */
  readonly pending: { readonly version: string, readonly inMs: number, readonly names: readonly string[] } | undefined
  /** Why the source's current settings are not in force. */
  readonly refused: readonly string[]
}

declare module 'fastify' {
  interface FastifyInstance {
    /** undefined: there is no central source. */
    centralState: () => CentralState | undefined
  }
}

/**
 * Follows the central source, and the files of secrets. It judges a change as soon as it sees it, and applies it as a whole:
 * changes of files at once, changes of the source at most once in `reloadIntervalMs`, and none after a stop has begun.
 */
export default fp<ReloadOptions>(async (app, { running }) => {
  const measured = instruments(app.metrics.registers)
  const stopping = new AbortController()
  const { signal } = stopping
  const pause = async (ms: number): Promise<void> => await delay(ms, undefined, { ref: false, signal }).catch(() => {})

  let heardAt: Date | undefined
  let away: string | undefined
  let refused: readonly string[] = []
  let appliedAt = -Infinity
  let pending: { snapshot: Snapshot, names: string[], at: number, timer: NodeJS.Timeout } | undefined

  app.decorate('centralState', () => {
    const { central } = running.layers
    if (central === undefined) return undefined
    return {
      source: central.source.name,
      version: central.snapshot.version,
      heardAt,
      copiedAt: central.copiedAt,
      away,
      refused,
      pending: pending && { version: pending.snapshot.version, inMs: Math.max(0, Math.round(pending.at - performance.now())), names: pending.names }
    }
  })

  // The source was read just before, unless a copy replaced it.
  const readAt = running.layers.central && new Date()
  app.metrics.gauge('config_source_up', '1 while the central source answers, or if there is none', () =>
    away === undefined && (heardAt !== undefined || running.layers.central?.copiedAt === undefined) ? 1 : 0)
  app.metrics.gauge('config_source_heard_timestamp_seconds', 'When the central source last answered, or when the copy of it was made from which the service started, in seconds since 1970; 0: there is no source', () =>
    ((heardAt ?? running.layers.central?.copiedAt ?? readAt)?.getTime() ?? 0) / 1_000)

  function consider (snapshot: Snapshot): void {
    const layers = running.layers.with(snapshot)
    clearTimeout(pending?.timer)
    pending = undefined
    const considered = isEmptied(layers, running.layers) ? emptied(layers) : weigh(layers, 'central')
    if (considered.verdict === 'refused') return refuse(layers, considered.faults, 'central')
    // Changes no setting, so it need not wait.
    if (considered.changes.length === 0) return apply(layers, 'central')
    const { reloadIntervalMs = 0, reloadJitterMs = 0 } = running.now.central ?? {}
    const now = performance.now()
    const at = Math.max(now + Math.random() * reloadJitterMs, appliedAt + reloadIntervalMs)
    pending = {
      snapshot,
      names: considered.changes.map(({ name }) => name),
      at,
      timer: setTimeout(() => {
        pending = undefined
        // `with` joins it to the current content of the files.
        apply(running.layers.with(snapshot), 'central')
      }, at - now).unref()
    }
  }

  /** Logs settings that need a restart as soon as it sees them. */
  function weigh (layers: Layers, origin: Origin): Considered {
    const before = JSON.stringify(running.takesRestart)
    const considered = running.consider(layers)
    if (considered.verdict === 'refused') return considered
    refused = []
    measured.usable(running)
    if (considered.takesRestart.length > 0 && JSON.stringify(considered.takesRestart) !== before) {
      app.log.warn({ ...sourceOf(layers, origin), takesRestart: shown(considered.takesRestart) }, 'Settings were changed that take a restart. They are not in force until then.')
    }
    return considered
  }

  function apply (layers: Layers, origin: Origin): void {
    if (signal.aborted) return
    const isHeard = infoIsHeard.has(app.log.level)
    const result = running.apply(layers)
    if (result.verdict === 'refused') return refuse(layers, result.faults, origin)
    measured.show(running)
    void keepCopy(running.layers, layers.judge()).catch((error: unknown) => app.log.warn({ err: error }, 'The copy of the central settings could not be written. The service runs on; it cannot start from that copy.'))
    const source = sourceOf(layers, origin)
    if (result.changes.length > 0) {
      if (origin === 'central') appliedAt = performance.now()
      // This line must be seen even if the change lowers the log level.
      const tell = (): void => app.log.info({ ...source, changes: shown(result.changes) }, 'Settings were changed, and are in force.')
      if (isHeard) tell()
      app.settings.changed()
      if (!isHeard) tell()
      measured.ended(origin, 'applied')
    }
  }

  function refuse (layers: Layers, faults: readonly string[], origin: Origin): void {
    measured.ended(origin, 'refused')
    if (faults.join() === refused.join()) return
    refused = faults
    app.log.error({ ...sourceOf(layers, origin), faults }, 'Settings were changed and cannot be used. None of the changes is in force. The service runs on with its current settings. Correct them where they are set.')
  }

  async function followCentral ({ source, snapshot }: Central): Promise<void> {
    for (let last: Snapshot = snapshot, failures = 0; !signal.aborted;) {
      const askedAt = performance.now()
      try {
        const next = await source.next(last, signal)
        heardAt = new Date()
        if (failures > 0) app.log.info({ source: source.name }, 'The central source answers again.')
        failures = 0
        away = undefined
        const isNew = !isSame(next, last) || running.layers.central?.copiedAt !== undefined
        last = next
        if (isNew) consider(next)
        else if (performance.now() - askedAt < calmMs) await pause(calmMs)
      } catch (error) {
        if (signal.aborted) return
        away = error instanceof Error ? error.message : String(error)
        if (failures === 0) app.log.warn({ source: source.name, why: away }, 'The central source does not answer. The service runs on with its current settings.')
        await pause(Math.min(retryMaxMs, retryMs * 2 ** failures) * (0.5 + Math.random() / 2))
        failures++
      }
    }
  }

  async function lookAtFiles (): Promise<void> {
    try {
      const reopened = await running.layers.reopen()
      // The source may have answered meanwhile.
      const { central } = running.layers
      const layers = central === undefined || reopened.central === central ? reopened : reopened.with(central.snapshot)
      const considered = weigh(layers, 'files')
      if (considered.verdict === 'refused') refuse(layers, considered.faults, 'files')
      else if (considered.changes.length > 0) apply(layers, 'files')
    } catch (error) {
      refuse(running.layers, [error instanceof Error ? error.message : String(error)], 'files')
    }
  }

  async function followFiles (files: string[]): Promise<void> {
    while (!signal.aborted) {
      // Watches the files before it reads them, so that it misses no change in between.
      const watches = files.map(file => watchPath(file, signal))
      await lookAtFiles()
      await Promise.race(watches.map(async ({ changed }) => await changed))
      for (const watch of watches) watch.close()
    }
  }

  const following: Array<Promise<void>> = []
  app.addHook('onReady', async () => {
    measured.show(running)
    const { central, environment } = running.layers
    if (central !== undefined) following.push(followCentral(central))
    const files = Object.entries(environment).flatMap(([name, file]) => name.endsWith('_FILE') && file !== undefined && running.shown.some(setting => setting.isSecret && `${setting.name}_FILE` === name) ? [file] : [])
    if (running.now.sealed !== undefined) files.push(running.now.sealed.file)
    if (files.length > 0) following.push(followFiles(files))
  })
  function stop (): void {
    stopping.abort()
    clearTimeout(pending?.timer)
    pending = undefined
  }
  app.drain.on('draining', stop, { name: 'stop following the settings' })
  app.addHook('onClose', async () => {
    stop()
    await Promise.all(following)
  })
}, { name: 'reload', fastify: '5.x', dependencies: ['fastify-drain', 'metrics', 'settings'] })

const origins = ['central', 'files'] as const
type Origin = typeof origins[number]

function sourceOf ({ central }: Layers, origin: Origin): object {
  return origin === 'files' || central === undefined ? { source: 'files' } : { source: central.source.name, version: central.snapshot.version }
}

/** Names a secret without its values. */
function shown (changes: readonly Change[]): object[] {
  return changes.map(({ name, from, to }) => from === null && to === null ? { name } : { name, from, to })
}

/** A source that was emptied by mistake would reset every setting to its default at once. */
function isEmptied ({ central: next }: Layers, { central: before }: Layers): boolean {
  return Object.keys(next?.snapshot.values ?? {}).length === 0 && Object.keys(before?.snapshot.values ?? {}).length > 0
}

function emptied ({ central }: Layers): Considered {
  return { verdict: 'refused', faults: [`${central?.source.name ?? ''} holds no setting any more. It held some before.`] }
}

function instruments (registers: [Registry]) {
  const reloads = new Counter({ name: 'config_reloads_total', help: 'Changes of settings while the service ran, by origin and outcome', labelNames: ['origin', 'outcome'], registers })
  for (const origin of origins) for (const outcome of ['applied', 'refused']) reloads.inc({ origin, outcome }, 0)
  const successful = new Gauge({ name: 'config_last_reload_successful', help: '1 if the latest settings could be used', registers })
  const succeededAt = new Gauge({ name: 'config_last_reload_success_timestamp_seconds', help: 'When settings last came into force, in seconds since 1970', registers })
  const info = new Gauge({ name: 'config_info', help: '1; the labels name the environment and the hash of the central settings in force: two hashes in one environment are two configurations', labelNames: ['environment', 'hash'], registers })
  const waiting = new Gauge({ name: 'config_restart_needed_settings', help: 'Changed settings that come into force with a restart', registers })
  return {
    usable (running: RunningSettings): void {
      successful.set(1)
      waiting.set(running.takesRestart.length)
    },
    show (running: RunningSettings): void {
      successful.set(1)
      succeededAt.set(Date.now() / 1_000)
      info.reset()
      info.set({ environment: running.now.environment ?? '', hash: running.centralHash }, 1)
      waiting.set(running.takesRestart.length)
    },
    ended (origin: Origin, outcome: 'applied' | 'refused'): void {
      reloads.inc({ origin, outcome })
      if (outcome === 'refused') successful.set(0)
    }
  }
}
