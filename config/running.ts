import { hash } from 'node:crypto'
import { judgeConfig, type Config, type Environment, type Judged, type Setting } from '../config.ts'
import { requireGood, type Layers, type ShownSetting } from './layers.ts'

/** What may change while the service runs. Everything else takes a restart. */
export const reloadable: ReadonlySet<string> = new Set([
  'LOG_LEVEL',
  'RATE_LIMIT',
  'INTAKE_QUEUE_MAX',
  'CUSTOMER_CHECK',
  'OTEL_TRACES_SAMPLER_ARG'
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
    if (considered.verdict === 'refused') return considered
    const waits = new Set(considered.takesRestart.map(({ name }) => name))
    this.#layers = layers
    this.#environment = mixed.environment
    this.#config = requireGood(mixed.judged)
    for (const setting of judged.settings.values()) if (reloadable.has(setting.name)) this.#settings.set(setting.name, setting)
    for (const shown of layers.shown(judged)) if (!waits.has(shown.name)) this.#shown.set(shown.name, shown)
    this.#takesRestart = considered.takesRestart
    return considered
  }

  #weigh (layers: Layers) {
    const judged = layers.judge()
    const environment = this.#mix(layers.environment)
    const mixed = { environment, judged: judgeConfig(environment) }
    const faults = [...new Set([...judged.faults, ...mixed.judged.faults])]
    if (faults.length > 0) return { considered: { verdict: 'refused', faults } satisfies Considered, judged, mixed }
    const differing = [...judged.settings.values()].filter(({ name, digest }) => this.#settings.get(name)?.digest !== digest)
    const changeOf = ({ name, shown }: Setting): Change => ({ name, from: this.#settings.get(name)?.shown ?? null, to: shown ?? null })
    return {
      considered: {
        verdict: 'good',
        changes: differing.filter(({ name }) => reloadable.has(name)).map(changeOf),
        takesRestart: differing.filter(({ name }) => !reloadable.has(name)).map(changeOf)
      } satisfies Considered,
      judged,
      mixed
    }
  }

  /** What runs, with what may change as it is set now. */
  #mix (next: Environment): Environment {
    const pick = (environment: Environment, whether: boolean) => Object.entries(environment).filter(([name]) => isReloadable(name) === whether)
    return Object.fromEntries([...pick(this.#environment, false), ...pick(next, true)])
  }
}

function isReloadable (name: string): boolean {
  return reloadable.has(name) || (name.endsWith('_FILE') && reloadable.has(name.slice(0, -5)))
}

function byName (settings: ShownSetting[]): Map<string, ShownSetting> {
  return new Map(settings.map(setting => [setting.name, setting]))
}
