import { readFile, rename, writeFile } from 'node:fs/promises'
import { centralOf, ConfigError, sealedOf, judgeConfig, readDotEnv, type CentralConfig, type Environment, type Judged } from '../config.ts'
import { UserError } from '../user-error.ts'
import { jsonOf, part } from './http.ts'
import { ageKeys, ageService, awsKms, kmsService } from './key-services.ts'
import { SealedError, unseal } from './sealed.ts'
import { openSource, SourceError, type Snapshot, type Source } from './source.ts'

/** From the weakest to the strongest: a later layer overrides an earlier one. */
export const layerNames = ['default', 'central', 'sealed', '.env', 'environment'] as const
export type Layer = typeof layerNames[number]

/** How long a start waits for the central source, in ms. */
const startMs = 5_000

/** Settings that each instance has for itself: where the central settings are, and where to keep a copy. */
const localOnly = /^CONFIG_/

export interface Local {
  readonly file: Environment
  readonly process: Environment
}

/** An opened sealed file. */
export interface Sealed {
  /** Its content, still sealed. */
  readonly file: string
  readonly values: Readonly<Record<string, string>>
}

export interface Central {
  readonly source: Source
  readonly snapshot: Snapshot
  /** When the last good copy was made, if it replaces a source that is away; undefined: the source itself answered. */
  readonly copiedAt: Date | undefined
}

/** A setting as operators see it. */
export interface ShownSetting {
  readonly name: string
  readonly layer: Layer
  /** null: none, or a secret. */
  readonly value: string | null
  readonly isSecret: boolean
}

/** The settings of a process, and the layer of each. */
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
      // NAME and NAME_FILE together are a fault only within one layer. Across layers the stronger one counts.
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

  /** The same with the source's current settings. */
  with (snapshot: Snapshot): Layers {
    return new Layers(this.#local, this.central && { ...this.central, snapshot, copiedAt: undefined }, this.sealed)
  }

  /**
   * The same with the sealed file's current settings; itself if the file has not changed.
   *
   * @throws ConfigError, SealedUnreadable
   */
  async reopen (): Promise<Layers> {
    const sealed = await openSealed(this.#local, this.sealed)
    return sealed === this.sealed ? this : new Layers(this.#local, this.central, sealed)
  }

  /** All faults at once: of the settings together, and of their layers. */
  judge (): Judged {
    const judged = judgeConfig(this.environment)
    const faults = [...this.#faultsOfCentral(), ...judged.faults]
    return { ...judged, faults, config: faults.length === 0 ? judged.config : undefined }
  }

  /** Names in the source that are no settings. */
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
      ...Object.keys(values).filter(name => localOnly.test(name)).map(name => `${name} is set in ${source.name}; it says where the central settings are, so set it for each instance.`),
      ...own !== undefined && values.ENVIRONMENT !== undefined && values.ENVIRONMENT !== own ? [`ENVIRONMENT is "${own}", and ${source.name} has the settings of "${values.ENVIRONMENT}"; set CONFIG_URL to the place of ${own}.`] : []
    ]
  }
}

export function readLocal (): Local {
  return { file: readDotEnv(), process: process.env }
}

/**
 * The settings of this process. If the central source is away, its last good copy replaces it.
 *
 * @throws ConfigError, SourceUnavailable
 */
export async function readLayers (local = readLocal()): Promise<Layers> {
  const sealed = await openSealed(local, undefined)
  // The source's token may be in the sealed file, so that is first.
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

/** The sealed file could not be opened: the service does not start, or keeps its settings. */
export class SealedUnreadable extends UserError {
  override readonly name = 'SealedUnreadable'

  constructor (file: string, why: string) {
    super(`The sealed settings in ${file} (CONFIG_SEALED_FILE) could not be opened: ${why}. None of them is in force. Seal them again (npm run seal), or correct the key that opens them.`)
  }
}

async function openSealed (local: Local, before: Sealed | undefined): Promise<Sealed | undefined> {
  const place = sealedOf(new Layers(local, undefined).environment)
  if (place === undefined) return undefined
  try {
    const file = await readFile(place.file, 'utf8').catch((error: unknown) => { throw new SealedError(`it cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'})`) })
    // An unchanged file needs no key: opening it may be a call to KMS, which costs money.
    if (file === before?.file) return before
    return {
      file,
      values: await unseal(file, place.environment, service => {
        if (service === ageService) return ageKeys({ identityFile: place.keyFile })
        if (service === kmsService) return awsKms()
        throw new SealedError(`this version knows no key service ${service}`)
      })
    }
  } catch (error) {
    throw error instanceof SealedError ? new SealedUnreadable(place.file, error.message) : error
  }
}

/** Neither the source nor a copy has the settings, so the service does not start. */
export class SourceUnavailable extends UserError {
  override readonly name = 'SourceUnavailable'

  constructor ({ url, cacheFile }: CentralConfig, why: string, copy: string) {
    super(`The central settings at ${url} could not be read: ${why}. ${copy} Nothing was started. ` +
      (cacheFile === undefined
        ? 'Restore the source and start again. With CONFIG_CACHE_FILE the service would start from the last good copy.'
        : 'Restore the source and start again.'))
  }
}

async function lastCopy (config: CentralConfig, { message }: SourceError): Promise<Pick<Central, 'snapshot' | 'copiedAt'>> {
  const { url, cacheFile } = config
  if (cacheFile === undefined) throw new SourceUnavailable(config, message, 'There is no copy, because CONFIG_CACHE_FILE is not set.')
  const copy = await readFile(cacheFile, 'utf8').then(jsonOf).catch(() => undefined)
  const [from, copiedAt, version, values] = ['url', 'copiedAt', 'version', 'values'].map(name => part(copy, name))
  if (typeof copiedAt !== 'string' || typeof version !== 'string' || typeof values !== 'object' || values === null) throw new SourceUnavailable(config, message, `CONFIG_CACHE_FILE (${cacheFile}) holds no copy of them.`)
  // The copy may be of another environment.
  if (from !== url) throw new SourceUnavailable(config, message, `The copy in CONFIG_CACHE_FILE (${cacheFile}) is of ${String(from)}.`)
  return {
    copiedAt: new Date(copiedAt),
    snapshot: { version, values: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)])) }
  }
}

/**
 * Keeps a copy of the source's settings, without secrets, for a start without the source.
 *
 * @throws an error of the file system
 */
export async function keepCopy ({ central }: Layers, { config, settings }: Judged): Promise<void> {
  const place = config?.central
  if (central === undefined || place?.cacheFile === undefined || central.copiedAt !== undefined) return
  const { values, version } = central.snapshot
  const kept = Object.entries(values).filter(([name, value]) => settings.get(name)?.shown === value || (!settings.has(name) && isKnown(name, settings)))
  const copy = JSON.stringify({ url: place.url, copiedAt: new Date().toISOString(), version, values: Object.fromEntries(kept) }, null, 2)
  // Renames a whole file into place, because a start may read it at any moment.
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
