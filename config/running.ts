import { hash } from 'node:crypto'
import { judgeConfig, type Config, type Environment, type Judged, type Setting } from '../config.ts'
import { requireGood, type Layers, type ShownSetting } from './layers.ts'

/** The settings that may change while the service runs. All others take a restart, except the secrets below. */
export const reloadable: ReadonlySet<string> = new Set([
  'LOG_LEVEL',
  'RATE_LIMIT',
  'INTAKE_QUEUE_MAX',
  'INTAKE_QUEUE_PER_CUSTOMER',
  'CUSTOMER_CHECK',
  'OTEL_TRACES_SAMPLER_ARG',
  // A secret that may also appear and disappear.
  'AUTH_JWT_SECRET_PREVIOUS'
])

/** Secrets whose value may change while the service runs. Adding or removing one takes a restart. */
export const rotatable: ReadonlySet<string> = new Set([
  'AUTH_JWT_SECRET',
  'DATABASE_PASSWORD',
  'EVENTS_TOKEN',
  'OPS_TOKEN',
  'PAYMENTS_TOKEN',
  'PAYMENTS_NOTIFY_SECRET',
  'CUSTOMERS_TOKEN'
])

/** A setting that differs. For a secret both values are null. */
export interface Change {
  readonly name: string
  readonly from: string | null
  readonly to: string | null
}

/** The effect of new settings on a running service. */
export type Considered =
  | { readonly verdict: 'refused', readonly faults: readonly string[] }
  | { readonly verdict: 'good', readonly changes: readonly Change[], readonly takesRestart: readonly Change[] }

/**
 * The settings in force. New settings are checked twice: as a whole, as at a start, and without those that take a restart. They
 * come into force together, or none does.
 */
export class RunningSettings {
  #layers: Layers
  #environment: Environment
  #config: Config
  #settings: Map<string, Setting>
  #shown: Map<string, ShownSetting>
  #takesRestart: readonly Change[] = []

  /** @throws ConfigError */
  constructor (layers: Layers, judged: Judged = layers.judge()) {
    this.#config = requireGood(judged)
    this.#layers = layers
    this.#environment = layers.environment
    this.#settings = new Map(judged.settings)
    this.#shown = byName(layers.shown(judged))
  }

  get now (): Config {
    return this.#config
  }

  get layers (): Layers {
    return this.#layers
  }

  get shown (): ShownSetting[] {
    return [...this.#shown.values()]
  }

  /** The changes that come into force with the next start. */
  get takesRestart (): readonly Change[] {
    return this.#takesRestart
  }

  /** A hash of the central settings in force. If it differs between instances of an environment, one lags behind. */
  get centralHash (): string {
    const central = this.shown.filter(({ layer }) => layer === 'central').map(({ name, value }) => [name, value])
    return hash('sha256', JSON.stringify(central)).slice(0, 12)
  }

  /** Checks new settings without putting them into force. It remembers which changes take a restart. */
  consider (layers: Layers): Considered {
    const { considered } = this.#weigh(layers)
    if (considered.verdict === 'good') this.#takesRestart = considered.takesRestart
    return considered
  }

  /** Checks again, because files may have changed meanwhile, and puts the settings into force. */
  apply (layers: Layers): Considered {
    const { considered, judged, mixed } = this.#weigh(layers)
    if (considered.verdict === 'refused' || mixed === undefined) return considered
    const waits = namesOf(considered.takesRestart)
    this.#layers = layers
    this.#environment = mixed.environment
    this.#config = requireGood(mixed.judged)
    for (const setting of judged.settings.values()) if (!waits.has(setting.name)) this.#settings.set(setting.name, setting)
    for (const shown of layers.shown(judged)) if (!waits.has(shown.name)) this.#shown.set(shown.name, shown)
    this.#takesRestart = considered.takesRestart
    return considered
  }

  #weigh (layers: Layers): { considered: Considered, judged: Judged, mixed?: { environment: Environment, judged: Judged } } {
    const judged = layers.judge()
    if (judged.faults.length > 0) return { considered: { verdict: 'refused', faults: judged.faults }, judged }
    const differing = [...judged.settings.values()]
      .filter(({ name, digest }) => this.#settings.get(name)?.digest !== digest)
      .toSorted((one, other) => one.name < other.name ? -1 : 1)
    const changeOf = ({ name, shown }: Setting): Change => ({ name, from: this.#settings.get(name)?.shown ?? null, to: shown ?? null })
    const takesRestart = differing.filter(setting => !this.#mayChange(setting)).map(changeOf)
    const changes = differing.filter(setting => this.#mayChange(setting)).map(changeOf)
    const environment = this.#mix(layers.environment, namesOf(takesRestart))
    const mixed = { environment, judged: judgeConfig(environment) }
    if (mixed.judged.faults.length > 0) return { considered: { verdict: 'refused', faults: mixed.judged.faults }, judged }
    return { considered: { verdict: 'good', changes, takesRestart }, judged, mixed }
  }

  #mayChange ({ name, digest }: Setting): boolean {
    const before = this.#settings.get(name)?.digest ?? ''
    return reloadable.has(name) || (rotatable.has(name) && before !== '' && digest !== '')
  }

  /** The new settings, but with the old values of those that wait for a restart. */
  #mix (next: Environment, waits: ReadonlySet<string>): Environment {
    const mixed = { ...next }
    for (const name of [...waits].flatMap(name => [name, `${name}_FILE`])) {
      if (this.#environment[name] === undefined) delete mixed[name]
      else mixed[name] = this.#environment[name]
    }
    return mixed
  }
}

function namesOf (changes: readonly Change[]): ReadonlySet<string> {
  return new Set(changes.map(({ name }) => name))
}

function byName (settings: ShownSetting[]): Map<string, ShownSetting> {
  return new Map(settings.map(setting => [setting.name, setting]))
}
