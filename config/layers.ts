import { readFile, rename, writeFile } from 'node:fs/promises'
import { centralOf, ConfigError, sealedOf, judgeConfig, readDotEnv, type CentralConfig, type Environment, type Judged } from '../config.ts'
import { jsonOf, part } from './http.ts'
import { ageKeys, ageService, awsKms, kmsService } from './key-services.ts'
import { SealedError, unseal } from './sealed.ts'
import { openSource, SourceError, type Snapshot, type Source } from './source.ts'

/** From the weakest to the strongest: what is set in a later one counts. */
export const layerNames = ['default', 'central', 'sealed', '.env', 'environment'] as const
export type Layer = typeof layerNames[number]

/** How long a start waits for the central source, in ms. */
const startMs = 5_000

/** Of this instance alone: where to look for the rest, and what a copy is kept in. */
const localOnly = /^CONFIG_/

export interface Local {
  readonly file: Environment
  readonly process: Environment
}

/** What a sealed file holds. */
export interface Sealed {
  /** As it lies there. */
  readonly file: string
  readonly values: Readonly<Record<string, string>>
}

export interface Central {
  readonly source: Source
  readonly snapshot: Snapshot
  /** Of the last good copy, where the source was away; undefined: it is the source's own word. */
  readonly copiedAt: Date | undefined
}

/** A setting as operators see it. */
export interface ShownSetting {
  readonly name: string
  readonly layer: Layer
  /** null: none. Of a secret never. */
  readonly value: string | null
  readonly isSecret: boolean
}

/** The settings of a process, and which layer each came from. */
export class Layers {
  readonly central: Central | undefined
  readonly environment: Environment
  readonly sealed: Sealed | undefined
  readonly #local: Local
  readonly #layerOf = new Map<string, Layer>()

  constructor (local: Local, central: Central | undefined, sealed?: Sealed) {
    this.#local = local
    this.central = central
    this.sealed = sealed
    const values = new Map<string, string>()
    const layers: Array<[Layer, Environment]> = [['central', central?.snapshot.values ?? {}], ['sealed', sealed?.values ?? {}], ['.env', local.file], ['environment', local.process]]
    for (const [layer, settings] of layers) {
      // Of a secret and its file the stronger layer's counts: both would be a fault, and are one only within a layer.
      for (const [name, value] of Object.entries(settings)) {
        if (!value) continue
        const twin = name.endsWith('_FILE') ? name.slice(0, -5) : `${name}_FILE`
        if (this.#layerOf.get(twin) !== layer) values.delete(twin)
      }
      for (const [name, value] of Object.entries(settings)) {
        if (!value) continue
        values.set(name, value)
        this.#layerOf.set(name, layer)
      }
    }
    this.environment = Object.fromEntries(values)
  }

  /** The same with what the source holds now. */
  with (snapshot: Snapshot): Layers {
    return new Layers(this.#local, this.central && { ...this.central, snapshot, copiedAt: undefined }, this.sealed)
  }

  /**
   * The same with what the sealed file holds now; itself where that is what it was.
   *
   * @throws ConfigError, SealedUnreadable
   */
  async reopen (): Promise<Layers> {
    const sealed = await openSealed(this.#local, this.sealed)
    return sealed === this.sealed ? this : new Layers(this.#local, this.central, sealed)
  }

  /** All at once: what is wrong with the whole, and with who says it. */
  judge (): Judged {
    const judged = judgeConfig(this.environment)
    const faults = [...this.#faultsOfCentral(), ...judged.faults]
    return { ...judged, faults, config: faults.length === 0 ? judged.config : undefined }
  }

  /** What the source holds that is no setting. */
  strangers ({ settings }: Judged): string[] {
    return Object.keys(this.central?.snapshot.values ?? {}).filter(name => !isKnown(name, settings))
  }

  shown ({ settings }: Judged): ShownSetting[] {
    return [...settings.values()].map(({ name, shown, isSecret }) => ({
      name,
      layer: (this.environment[name] === undefined ? undefined : this.#layerOf.get(name)) ?? (isSecret && this.environment[`${name}_FILE`] !== undefined ? this.#layerOf.get(`${name}_FILE`) : undefined) ?? 'default',
      value: shown ?? null,
      isSecret
    })).toSorted((one, other) => one.name < other.name ? -1 : 1)
  }

  #faultsOfCentral (): string[] {
    if (this.central === undefined) return []
    const { source, snapshot: { values } } = this.central
    const own = this.#local.process.ENVIRONMENT || this.#local.file.ENVIRONMENT
    return [
      ...Object.keys(values).filter(name => localOnly.test(name)).map(name => `${name} is set in ${source.name}; it says where the central settings are, and is set for each instance.`),
      ...own !== undefined && values.ENVIRONMENT !== undefined && values.ENVIRONMENT !== own ? [`ENVIRONMENT is "${own}", and ${source.name} says of itself that it is of "${values.ENVIRONMENT}"; set CONFIG_URL to the place of ${own}.`] : []
    ]
  }
}

export function readLocal (): Local {
  return { file: readDotEnv(), process: process.env }
}

/**
 * The settings of this process. Where the central source is away, its last good copy.
 *
 * @throws ConfigError, SourceUnavailable
 */
export async function readLayers (local = readLocal()): Promise<Layers> {
  const sealed = await openSealed(local, undefined)
  // A token of the source may be sealed.
  const config = centralOf(new Layers(local, undefined, sealed).environment)
  if (config === undefined) return new Layers(local, undefined, sealed)
  const source = openSource(config)
  try {
    return new Layers(local, { source, snapshot: await source.read(AbortSignal.timeout(startMs)), copiedAt: undefined }, sealed)
  } catch (error) {
    if (!(error instanceof SourceError)) throw error
    return new Layers(local, { source, ...await lastCopy(config, error) }, sealed)
  }
}

/** Nothing of a sealed file could be read, so no start, or no change. */
export class SealedUnreadable extends Error {
  override readonly name = 'SealedUnreadable'

  constructor (file: string, why: string) {
    super(`The sealed settings in ${file} (CONFIG_SEALED_FILE) could not be opened: ${why}. Nothing of them is in force. Seal them anew (npm run seal), or mend what opens them.`)
  }
}

async function openSealed (local: Local, before: Sealed | undefined): Promise<Sealed | undefined> {
  const place = sealedOf(new Layers(local, undefined).environment)
  if (place === undefined) return undefined
  try {
    const file = await readFile(place.file, 'utf8').catch((error: unknown) => { throw new SealedError(`it cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'})`) })
    // Not asked of its key again and again: that is a call, and is counted.
    if (file === before?.file) return before
    return {
      file,
      values: await unseal(file, place.environment, service => {
        if (service === ageService) return ageKeys({ identityFile: place.keyFile })
        if (service === kmsService) return awsKms()
        throw new SealedError(`nothing here opens a key of ${service}`)
      })
    }
  } catch (error) {
    throw error instanceof SealedError ? new SealedUnreadable(place.file, error.message) : error
  }
}

/** No settings, so no start. */
export class SourceUnavailable extends Error {
  override readonly name = 'SourceUnavailable'

  constructor ({ url, cacheFile }: CentralConfig, why: string, copy: string) {
    super(`The central settings at ${url} could not be read: ${why}. ${copy} Nothing was started. ` +
      (cacheFile === undefined
        ? 'Bring the source back and start again; with CONFIG_CACHE_FILE set, the last good copy would do for a start.'
        : 'Bring the source back and start again.'))
  }
}

async function lastCopy (config: CentralConfig, { message }: SourceError): Promise<Pick<Central, 'snapshot' | 'copiedAt'>> {
  const { url, cacheFile } = config
  if (cacheFile === undefined) throw new SourceUnavailable(config, message, 'No copy of them is kept: CONFIG_CACHE_FILE is not set.')
  const copy = await readFile(cacheFile, 'utf8').then(jsonOf).catch(() => undefined)
  const [from, copiedAt, version, values] = ['url', 'copiedAt', 'version', 'values'].map(name => part(copy, name))
  if (typeof copiedAt !== 'string' || typeof version !== 'string' || typeof values !== 'object' || values === null) throw new SourceUnavailable(config, message, `CONFIG_CACHE_FILE (${cacheFile}) holds no copy of them.`)
  // A copy of another environment's settings is as wrong as its source.
  if (from !== url) throw new SourceUnavailable(config, message, `The copy in CONFIG_CACHE_FILE (${cacheFile}) is of ${String(from)}.`)
  return { copiedAt: new Date(copiedAt), snapshot: { version, values: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)])) } }
}

/**
 * Keeps what the source said for a start without it. No secrets, and nothing that may hold one.
 *
 * @throws an error of the file system
 */
export async function keepCopy ({ central }: Layers, { config, settings }: Judged): Promise<void> {
  const place = config?.central
  if (central === undefined || place?.cacheFile === undefined || central.copiedAt !== undefined) return
  const { values, version } = central.snapshot
  const kept = Object.entries(values).filter(([name, value]) => settings.get(name)?.shown === value || (!settings.has(name) && isKnown(name, settings)))
  const copy = JSON.stringify({ url: place.url, copiedAt: new Date().toISOString(), version, values: Object.fromEntries(kept) }, null, 2)
  // As a whole or not at all: a start may read it at any moment.
  await writeFile(`${place.cacheFile}.new`, `${copy}\n`, { mode: 0o600 })
  await rename(`${place.cacheFile}.new`, place.cacheFile)
}

function isKnown (name: string, settings: Judged['settings']): boolean {
  return settings.has(name) || (name.endsWith('_FILE') && settings.get(name.slice(0, -5))?.isSecret === true)
}

/** @throws ConfigError */
export function requireGood ({ config, faults }: Judged): NonNullable<Judged['config']> {
  if (config === undefined) throw new ConfigError([...faults])
  return config
}
