import { hash } from 'node:crypto'
import { judgeConfig, type Config, type Environment, type Judged, type Setting } from '../config.ts'
import { requireGood, type Layers, type ShownSetting } from './layers.ts'

/** What may change while the service runs. Everything else takes a restart, but for the secrets below. */
export const reloadable: ReadonlySet<string> = new Set([
  'LOG_LEVEL',
  'RATE_LIMIT',
  'INTAKE_QUEUE_MAX',
  'INTAKE_QUEUE_PER_CUSTOMER',
  'CUSTOMER_CHECK',
  'OTEL_TRACES_SAMPLER_ARG',
  // A secret that comes and goes.
  'AUTH_JWT_SECRET_PREVIOUS'
])

/** Secrets that may become others while the service runs. To have one where none was, or none any more, takes a restart. */
export const rotatable: ReadonlySet<string> = new Set([
  'AUTH_JWT_SECRET',
  'DATABASE_PASSWORD',
  'EVENTS_TOKEN',
  'OPS_TOKEN',
  'PAYMENTS_TOKEN',
  'PAYMENTS_NOTIFY_SECRET',
  'CUSTOMERS_TOKEN'
])

/** A setting that differs. Of a secret neither value is said. */
export interface Change {
  readonly name: string
  readonly from: string | null
  readonly to: string | null
}

/** What new settings do to a running service. */
export type Considered =
  | { readonly verdict: 'refused', readonly faults: readonly string[] }
  | { readonly verdict: 'good', readonly changes: readonly Change[], readonly takesRestart: readonly Change[] }

/**
 * The settings that the service runs with. New ones are judged as a whole, as at a start, and once more together with what
 * takes a restart: they come into force all at once, or nothing does.
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

  /** What is set otherwise by now, and comes into force with the next start. */
  get takesRestart (): readonly Change[] {
    return this.#takesRestart
  }

  /** Of what the central source said and is in force: the same for all instances of an environment, or one lags behind. */
  get centralHash (): string {
    const central = this.shown.filter(({ layer }) => layer === 'central').map(({ name, value }) => [name, value])
    return hash('sha256', JSON.stringify(central)).slice(0, 12)
  }

  /** Puts nothing into force, and remembers what would take a restart. */
  consider (layers: Layers): Considered {
    const { considered } = this.#weigh(layers)
    if (considered.verdict === 'good') this.#takesRestart = considered.takesRestart
    return considered
  }

  /** Judges once more, as files may have changed meanwhile, and puts it into force. */
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
    const differing = [...judged.settings.values()].filter(({ name, digest }) => this.#settings.get(name)?.digest !== digest).toSorted((one, other) => one.name < other.name ? -1 : 1)
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

  /** What is set now, but for what waits for a restart. */
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
