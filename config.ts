import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { isLoopbackHost } from './config/loopback.ts'
import { allowables, faultsInProduction, noDatabase, type Allowable } from './config/production.ts'
import packageJson from './package.json' with { type: 'json' }
import { isNetwork } from './plugins/client-address.ts'
import { tracingOf, type TracingConfig } from './tracing/settings.ts'
import { UserError } from './user-error.ts'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

const captures = ['sale', 'ship'] as const
const customerChecks = ['required', 'tolerant'] as const

/** Settings that may be `off`. */
const limits: ReadonlySet<string> = new Set(['RATE_LIMIT', 'CONNECTIONS_PER_ADDRESS'])

/** The longest timer of Node, in ms: a longer one fires at once. */
const longestTimerMs = 2 ** 31 - 1

/** A hundred years, in ms. Postgres subtracts it from now, and has no times before 4713 BC. */
const longestRetentionMs = 100 * 365 * 86_400_000

/** All settings, read from the environment once and frozen. Durations are in ms. */
export interface Config {
  readonly production: boolean
  /** The name of the environment, such as staging. The database must belong to the same one. undefined: no name is set. */
  readonly environment: string | undefined
  /** The central settings of all instances of an environment; undefined: there are none. */
  readonly central: CentralConfig | undefined
  /** The file with encrypted settings; undefined: there is none. */
  readonly sealed: SealedConfig | undefined
  /** revision: the commit, as the builder names it. */
  readonly build: { readonly version: string, readonly revision: string | undefined }
  readonly host: string
  readonly port: number
  readonly ops: {
    readonly host: string
    readonly port: number
    readonly token: string | undefined
    /** Allowed host names, in addition to addresses and the names of this machine. Default: none. */
    readonly allowedHosts?: readonly string[] | undefined
  }
  /** The port for HAProxy's agent-check; undefined: nothing listens. */
  readonly agent: { readonly host: string, readonly port: number | undefined }
  readonly database: {
    /** undefined: the embedded Postgres. */
    readonly url: string | undefined
    /** The most connections. */
    readonly pool: number
    readonly migrateOnStart: boolean
  }
  /** Neither secret nor jwksUrl: the local secret for the embedded Postgres. */
  readonly auth: {
    readonly secret: string | undefined
    /** Also accepted, while the secret is rotated. */
    readonly previousSecret: string | undefined
    readonly jwksUrl: string | undefined
    /** The `iss` that tokens must have; undefined: not checked. */
    readonly issuer: string | undefined
    /** `aud` must contain one of these; undefined: not checked. */
    readonly audience: readonly string[] | undefined
  }
  /** Whether to serve the page to browse the API. */
  readonly docs: boolean
  /** Pages of these origins may call the API: scheme, host and port. */
  readonly corsOrigins: readonly string[]
  readonly logLevel: typeof logLevels[number]
  readonly drain: {
    readonly minMs: number
    readonly quietMs: number
    readonly maxMs: number
    readonly deadlineMs: number
    /** The file for the report of the stop; undefined: none. */
    readonly reportFile: string | undefined
  }
  /** Whether replies during a stop tell Envoy that this instance is leaving. */
  readonly envoyHealthHeader: boolean
  /** Whether every reply tells Envoy the load of this instance. */
  readonly orcaLoadMetrics: boolean
  /** undefined: none. */
  readonly registry: RegistryConfig | undefined
  /** The service that takes the order events over HTTP; undefined: they go to the log. */
  readonly events: { readonly url: string, readonly token: string | undefined } | undefined
  readonly payments: {
    /** undefined: the demo gateway, in this process. */
    readonly gateway: CalledService | undefined
    /** sale: the gateway takes the money when an order is paid. ship: it authorises it then, and captures it at the shipment. */
    readonly capture: typeof captures[number]
    /** The secret with which the gateway signs its notifications; undefined: the service accepts none. */
    readonly notifySecret: string | undefined
  }
  readonly customers: {
    /** undefined: everybody may order. */
    readonly directory: CalledService | undefined
    /** If the directory cannot be reached: required refuses the order, tolerant accepts it. */
    readonly check: typeof customerChecks[number]
  }
  /** How long an order may stay unpaid, in ms; 0: for ever. */
  readonly orderExpiryMs: number
  readonly webhooks: {
    /** Whether webhooks may go to addresses that are not public. */
    readonly privateAddresses: boolean
  }
  readonly tracing: TracingConfig
  /** How long rows that idempotency does not need are kept, in ms; 0: for ever. */
  readonly retention: { readonly outboxMs: number, readonly stopsMs: number, readonly deliveriesMs: number }
  /** How long a request may wait for its answer; also the time that a query may take. */
  readonly requestTimeoutMs: number
  readonly maxConnections: number
  /** Connections of one address at once, or its requests under way if a trusted proxy names it; undefined: no limit. */
  readonly connectionsPerAddress: number | undefined
  /** Addresses and CIDRs whose X-Forwarded-For and Forwarded headers name the client. */
  readonly trustedProxies: readonly string[]
  /** Event streams open at once. */
  readonly streams: { readonly max: number, readonly perCustomer: number }
  readonly intake: { readonly batchMax: number, readonly inFlight: number, readonly queueMax: number, readonly queuePerCustomer: number }
  /** Requests a minute of one customer; undefined: no limit. */
  readonly rateLimit: number | undefined
  /** A Redis in which all instances count together; undefined: each counts by itself. */
  readonly rateLimitStore: string | undefined
}

/** The place of the central settings, and how often their changes may change this process. */
export interface CentralConfig {
  /** etcd://, consul://, nacos:// or file://, with the prefix as its path. */
  readonly url: string
  readonly token: string | undefined
  /** The file for the last good copy, without secrets, for a start without the source; undefined: none. */
  readonly cacheFile: string | undefined
  /** The shortest time between two reloads, in ms. */
  readonly reloadIntervalMs: number
  /** A reload waits for a random time below this, in ms, so that the instances change one after another. */
  readonly reloadJitterMs: number
}

export interface SealedConfig {
  readonly file: string
  /** The file with the key of age that opens it; undefined: the sealed file names another key service. */
  readonly keyFile: string | undefined
  /** The environment for which the file must be sealed. */
  readonly environment: string
}

/** A setting as it was read. */
export interface Setting {
  readonly name: string
  /** The value or the default as text; undefined: a secret, or no value. */
  readonly shown: string | undefined
  readonly isSecret: boolean
  /** Shows whether two values differ, and nothing else. */
  readonly digest: string
}

/** The result of checking all settings together. */
export interface Judged {
  /** undefined if there are faults. */
  readonly config: Config | undefined
  readonly faults: readonly string[]
  /** All settings, by name. */
  readonly settings: ReadonlyMap<string, Setting>
}

/** In semantic versioning the revision is build metadata. */
export function versionOf ({ build: { version, revision } }: Pick<Config, 'build'>): string {
  return revision === undefined ? version : `${version}+${revision}`
}

/** Another service, called over HTTP. */
export interface CalledService {
  readonly url: string
  /** Sent as Authorization: Bearer. */
  readonly token: string | undefined
  /** The longest call, in ms. */
  readonly timeoutMs: number
}

/** A service registry: an agent of Consul, or two URLs that take a POST. */
export type RegistryConfig = {
  readonly token: string | undefined
  readonly serviceName: string
  /** undefined: made of the service's name, the machine's name and the port. */
  readonly id: string | undefined
  /** undefined: the address of Consul's agent, or the machine's name. */
  readonly address: string | undefined
  /** How long the registry keeps the instance without news; the service reports after each third of it. */
  readonly ttlMs: number
} & ({ readonly consulUrl: string } | { readonly registerUrl: string, readonly deregisterUrl: string })

/** All faults of the settings at once. */
export class ConfigError extends UserError {
  readonly faults: string[]

  constructor (faults: string[]) {
    super(`The settings cannot be used. Nothing was started.\n${faults.map(fault => `  - ${fault}`).join('\n')}\nCorrect these and start again. The README lists every setting.`)
    this.name = 'ConfigError'
    this.faults = faults
  }
}

export type Environment = Record<string, string | undefined>

/** The process's environment, which overrides the file .env; the file may be absent. */
export function readEnvironment (file = '.env'): Environment {
  return { ...readDotEnv(file), ...process.env }
}

/** The settings in the file; none if it is absent. */
export function readDotEnv (file = '.env'): Environment {
  try {
    return parseEnv(readFileSync(file, 'utf8'))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    return {}
  }
}

/** @throws ConfigError with all faults */
export function loadConfig (environment: Environment): Config {
  const { config, faults } = judgeConfig(environment)
  if (config === undefined) throw new ConfigError([...faults])
  return config
}

/** Checks all settings together, and returns all faults. */
export function judgeConfig (environment: Environment): Judged {
  const settings = new Settings(environment)
  const production = settings.oneOf('NODE_ENV', ['development', 'test', 'production'], 'development') === 'production'

  const environmentName = settings.environment()
  const opsHost = settings.text('OPS_HOST', '127.0.0.1')
  const maxConnections = settings.integer('MAX_CONNECTIONS', 1_000, 1)

  const queueMax = settings.integer('INTAKE_QUEUE_MAX', 10_000, 1)
  const build = { version: packageJson.version, revision: settings.text('REVISION') }
  const config: Config = {
    production,
    environment: environmentName,
    central: settings.central(),
    sealed: settings.sealed(environmentName),
    build,
    host: settings.text('HOST', '127.0.0.1'),
    port: settings.integer('PORT', 3_000, 0, 65_535),
    ops: {
      host: opsHost,
      port: settings.integer('OPS_PORT', 3_001, 0, 65_535),
      token: settings.secret('OPS_TOKEN'),
      allowedHosts: settings.hostNames('OPS_ALLOWED_HOSTS')
    },
    agent: {
      host: settings.text('AGENT_HOST', opsHost),
      port: settings.integer('AGENT_PORT', undefined, 0, 65_535)
    },
    database: {
      url: settings.databaseUrl(),
      pool: settings.integer('DATABASE_POOL', 10, 2, 1_000),
      migrateOnStart: settings.oneOf('MIGRATE_ON_START', ['true', 'false'], 'true') === 'true'
    },
    auth: {
      secret: settings.secret('AUTH_JWT_SECRET'),
      previousSecret: settings.secret('AUTH_JWT_SECRET_PREVIOUS'),
      jwksUrl: settings.url('AUTH_JWKS_URL', ['https:', 'http:'], settings.text('AUTH_JWKS_URL')),
      issuer: settings.text('AUTH_ISSUER'),
      audience: settings.text('AUTH_AUDIENCE')?.split(',').map(name => name.trim()).filter(name => name !== '')
    },
    docs: settings.oneOf('DOCS', ['true', 'false'], production ? 'false' : 'true') === 'true',
    corsOrigins: settings.origins('CORS_ORIGINS'),
    logLevel: settings.oneOf('LOG_LEVEL', logLevels, 'info'),
    drain: {
      minMs: settings.integer('DRAIN_MIN_MS', production ? 5_000 : 0, 0, longestTimerMs),
      quietMs: settings.integer('DRAIN_QUIET_MS', production ? 1_000 : 0, 0, longestTimerMs),
      maxMs: settings.integer('DRAIN_MAX_MS', production ? 15_000 : 0, 0, longestTimerMs),
      deadlineMs: settings.integer('DRAIN_DEADLINE_MS', 25_000, 1, longestTimerMs),
      reportFile: settings.text('DRAIN_REPORT_FILE')
    },
    envoyHealthHeader: settings.oneOf('ENVOY_HEALTH_HEADER', ['true', 'false'], 'false') === 'true',
    orcaLoadMetrics: settings.oneOf('ORCA_LOAD_METRICS', ['true', 'false'], 'false') === 'true',
    registry: settings.registry(),
    events: settings.events(),
    payments: {
      gateway: settings.called('PAYMENTS', 5_000),
      capture: settings.oneOf('PAYMENTS_CAPTURE', captures, 'sale'),
      notifySecret: settings.notifySecret(production ? 24 : 1)
    },
    customers: {
      directory: settings.called('CUSTOMERS', 2_000),
      check: settings.oneOf('CUSTOMER_CHECK', customerChecks, 'required')
    },
    orderExpiryMs: settings.integer('ORDER_EXPIRY_MS', 86_400_000, 0, longestRetentionMs),
    webhooks: { privateAddresses: settings.oneOf('WEBHOOKS_PRIVATE_ADDRESSES', ['true', 'false'], 'false') === 'true' },
    tracing: tracingOf(settings, { environment: environmentName ?? (production ? 'production' : 'development'), version: versionOf({ build }) }),
    retention: {
      outboxMs: settings.integer('OUTBOX_RETENTION_MS', 0, 0, longestRetentionMs),
      stopsMs: settings.integer('STOPS_RETENTION_MS', 90 * 86_400_000, 0, longestRetentionMs),
      deliveriesMs: settings.integer('WEBHOOKS_RETENTION_MS', 30 * 86_400_000, 0, longestRetentionMs)
    },
    requestTimeoutMs: settings.integer('REQUEST_TIMEOUT_MS', 10_000, 100, 600_000),
    maxConnections,
    connectionsPerAddress: settings.limit('CONNECTIONS_PER_ADDRESS'),
    trustedProxies: settings.trustedProxies(),
    streams: {
      max: settings.integer('STREAMS_MAX', Math.ceil(maxConnections / 2), 1),
      perCustomer: settings.integer('STREAMS_PER_CUSTOMER', Math.max(10, Math.floor(maxConnections / 10)), 1)
    },
    intake: {
      batchMax: settings.integer('INTAKE_BATCH_MAX', 128, 1, 1_000),
      inFlight: settings.integer('INTAKE_IN_FLIGHT', 4, 1, 1_000),
      queueMax,
      queuePerCustomer: settings.integer('INTAKE_QUEUE_PER_CUSTOMER', Math.max(1, Math.floor(queueMax / 10)), 1)
    },
    rateLimit: settings.limit('RATE_LIMIT'),
    rateLimitStore: settings.url('RATE_LIMIT_STORE', ['redis:', 'rediss:'], settings.secret('RATE_LIMIT_STORE'))
  }

  const { auth, database, drain, intake, ops, requestTimeoutMs, streams } = config
  const allowed = settings.allowedInProduction()
  if (production) for (const fault of faultsInProduction(config, allowed)) settings.fault(fault)
  if (production) settings.requireDatabase(allowed)
  // On other hosts loopback is not trusted either: a forwarder such as a sidecar makes all connections come from loopback.
  if (!isLoopbackHost(ops.host) && !settings.isSet('OPS_TOKEN')) settings.fault(`OPS_TOKEN is not set, and OPS_HOST (${ops.host}) is not loopback: everybody who reaches that port could stop the service. Set it. Make one with: openssl rand -base64 32`)
  if (auth.secret !== undefined && auth.jwksUrl !== undefined) settings.fault('AUTH_JWT_SECRET and AUTH_JWKS_URL are both set; set one, so that it is clear which tokens are valid.')
  if (settings.isSet('DATABASE_URL') && !settings.isSet('AUTH_JWT_SECRET') && auth.jwksUrl === undefined) settings.fault('DATABASE_URL is set and neither AUTH_JWT_SECRET nor AUTH_JWKS_URL is; set one, so that tokens can be checked.')
  // RFC 7518 section 3.2: a key for HS256 is no shorter than its hash.
  for (const [name, secret] of Object.entries({ AUTH_JWT_SECRET: auth.secret, AUTH_JWT_SECRET_PREVIOUS: auth.previousSecret })) {
    if (production && secret !== undefined && Buffer.byteLength(secret) < 32) settings.fault(`${name} is shorter than 32 bytes; make one with: openssl rand -base64 32`)
  }
  if (auth.previousSecret !== undefined && auth.secret === undefined) settings.fault('AUTH_JWT_SECRET_PREVIOUS is set and AUTH_JWT_SECRET is not; set both while the secret is rotated, and remove the previous one after that.')
  // RFC 8725 sections 3.8 and 3.9: an issuer signs the tokens of other services with the same keys.
  if (auth.audience?.length === 0) settings.fault('AUTH_AUDIENCE names nobody; it takes one name, or several with commas between them.')
  for (const [name, value] of Object.entries({ AUTH_ISSUER: auth.issuer, AUTH_AUDIENCE: auth.audience })) {
    if (production && auth.jwksUrl !== undefined && value === undefined) settings.fault(`AUTH_JWKS_URL is set and ${name} is not; set it to what the tokens for this service have as ${name === 'AUTH_ISSUER' ? 'iss' : 'aud'}, or the service accepts tokens for other services.`)
  }
  if (drain.minMs > drain.maxMs) settings.fault(`DRAIN_MIN_MS (${drain.minMs}) is above DRAIN_MAX_MS (${drain.maxMs}).`)
  if (drain.quietMs > drain.maxMs) settings.fault(`DRAIN_QUIET_MS (${drain.quietMs}) is above DRAIN_MAX_MS (${drain.maxMs}): it could never be reached.`)
  if (drain.maxMs + requestTimeoutMs > drain.deadlineMs) settings.fault(`DRAIN_MAX_MS (${drain.maxMs}) and REQUEST_TIMEOUT_MS (${requestTimeoutMs}) do not fit into DRAIN_DEADLINE_MS (${drain.deadlineMs}): a request could be cut off.`)
  if (intake.queuePerCustomer > intake.queueMax) settings.fault(`INTAKE_QUEUE_PER_CUSTOMER (${intake.queuePerCustomer}) is above INTAKE_QUEUE_MAX (${intake.queueMax}): it could never be reached.`)
  if (intake.inFlight >= database.pool) settings.fault(`INTAKE_IN_FLIGHT (${intake.inFlight}) is not below DATABASE_POOL (${database.pool}): reads would wait for orders.`)

  if (streams.max > maxConnections) settings.fault(`STREAMS_MAX (${streams.max}) is above MAX_CONNECTIONS (${maxConnections}): it could never be reached.`)

  return { config: settings.faults.length > 0 ? undefined : deepFreeze(config), faults: settings.faults, settings: settings.read }
}

/**
 * The place of the central settings, which cannot be a central setting; undefined: there is none.
 *
 * @throws ConfigError
 */
export function centralOf (environment: Environment): CentralConfig | undefined {
  const settings = new Settings(environment)
  const central = settings.central()
  if (settings.faults.length > 0) throw new ConfigError(settings.faults)
  return central
}

/**
 * The place of the sealed settings, which cannot be a sealed setting; undefined: there is none.
 *
 * @throws ConfigError
 */
export function sealedOf (environment: Environment): SealedConfig | undefined {
  const settings = new Settings(environment)
  const sealed = settings.sealed(settings.environment())
  if (settings.faults.length > 0) throw new ConfigError(settings.faults)
  return sealed
}

/**
 * ENVIRONMENT alone, for commands that need no more.
 *
 * @throws ConfigError
 */
export function environmentOf (environment: Environment): string | undefined {
  const settings = new Settings(environment)
  const name = settings.environment()
  if (settings.faults.length > 0) throw new ConfigError(settings.faults)
  return name
}

/**
 * DATABASE_URL alone, for commands that need no more; undefined: the embedded Postgres.
 *
 * @throws ConfigError
 */
export function databaseUrlOf (environment: Environment): string | undefined {
  const settings = new Settings(environment)
  const url = settings.databaseUrl()
  if (settings.text('NODE_ENV') === 'production') settings.requireDatabase(settings.allowedInProduction())
  if (settings.faults.length > 0) throw new ConfigError(settings.faults)
  return url
}

/** Reads one setting after another, and collects the faults instead of stopping at the first. */
export class Settings {
  readonly faults: string[] = []
  /** All settings that were read, set or not. */
  readonly read = new Map<string, Setting>()
  readonly #environment: Environment

  constructor (environment: Environment) {
    this.#environment = environment
  }

  fault (fault: string): void {
    this.faults.push(fault)
  }

  /** Whether NAME or NAME_FILE is set. */
  isSet (name: string): boolean {
    return this.#valueOf(name) !== undefined || this.#valueOf(`${name}_FILE`) !== undefined
  }

  /** An empty value counts as absent. */
  text (name: string): string | undefined
  text (name: string, defaultValue: string): string
  text (name: string, defaultValue?: string): string | undefined {
    const value = this.#valueOf(name) ?? defaultValue
    this.#note(name, value)
    return value
  }

  /** From NAME, or from the file that NAME_FILE names (as containers mount secrets). */
  secret (name: string): string | undefined {
    const value = this.#valueOf(name)
    const file = this.#valueOf(`${name}_FILE`)
    this.#note(name, value, true)
    if (file === undefined) return value
    if (value !== undefined) this.fault(`${name} and ${name}_FILE are both set; set one.`)
    try {
      const content = readFileSync(file, 'utf8').trim()
      if (content === '') this.fault(`${name}_FILE names the file ${file}, which is empty.`)
      this.#note(name, content, true)
      return content || undefined
    } catch (error) {
      this.fault(`${name}_FILE names the file ${file}, which cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'}).`)
      return undefined
    }
  }

  integer<Default extends number | undefined> (name: string, defaultValue: Default, min: number, max = Number.MAX_SAFE_INTEGER): number | Default {
    const text = this.#valueOf(name)
    this.#note(name, text ?? defaultValue?.toString())
    if (text === undefined) return defaultValue
    const value = /^\d+$/.test(text) ? Number(text) : NaN
    if (value >= min && value <= max) return value
    this.fault(`${name} is "${text}"; it takes a whole number from ${min}${max === Number.MAX_SAFE_INTEGER ? '' : ` to ${max}`}${limits.has(name) ? ', or off' : ''}.`)
    return defaultValue
  }

  /** One of `limits`; undefined if it is off, the default. */
  limit (name: string): number | undefined {
    return this.text(name, 'off') === 'off' ? undefined : this.integer(name, undefined, 1)
  }

  trustedProxies (): string[] {
    const networks = this.text('TRUSTED_PROXIES')?.split(',').map(network => network.trim()).filter(network => network !== '') ?? []
    const wrong = networks.filter(network => !isNetwork(network))
    if (wrong.length > 0) this.fault(`TRUSTED_PROXIES has ${wrong.map(network => `"${network}"`).join(', ')}; it takes addresses and networks such as 10.0.0.0/8, with commas between them.`)
    return networks.filter(isNetwork)
  }

  oneOf<Value extends string> (name: string, values: readonly Value[], defaultValue: Value): Value {
    const text = this.#valueOf(name)
    this.#note(name, text ?? defaultValue)
    if (text === undefined) return defaultValue
    const value = values.find(value => value === text)
    if (value === undefined) this.fault(`${name} is "${text}"; it takes one of ${values.join(', ')}.`)
    return value ?? defaultValue
  }

  /** Values with commas between them. */
  list (name: string): string[] {
    return this.text(name)?.split(',').map(value => value.trim()).filter(value => value !== '') ?? []
  }

  allowedInProduction (): Allowable[] {
    const named = this.list('ALLOW_IN_PRODUCTION')
    const known = allowables.filter(allowable => named.includes(allowable))
    if (known.length < new Set(named).size) this.fault(`ALLOW_IN_PRODUCTION is "${named.join(',')}"; it takes ${allowables.join(', ')}, with commas between them.`)
    return known
  }

  requireDatabase (allowed: readonly Allowable[]): void {
    if (!this.isSet('DATABASE_URL') && !allowed.includes('embedded-postgres')) this.fault(noDatabase)
  }

  hostNames (name: string): string[] {
    const names = this.list(name)
    const wrong = names.find(host => !/^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/i.test(host))
    if (wrong !== undefined) this.fault(`${name} has "${wrong}"; it takes names of hosts without a port, with commas between them.`)
    return names.map(host => host.toLowerCase())
  }

  /** Origins in the form that browsers send. */
  origins (name: string): string[] {
    const origins = this.list(name)
    const wrong = origins.find(origin => !/^https?:/.test(origin) || URL.parse(origin)?.origin !== origin)
    if (wrong !== undefined) this.fault(`${name} has "${wrong}"; it takes origins such as https://shop.example, with commas between them.`)
    return origins
  }

  /** Includes DATABASE_PASSWORD, if that is set. */
  databaseUrl (): string | undefined {
    const value = this.secret('DATABASE_URL')
    const password = this.secret('DATABASE_PASSWORD')
    if (value !== undefined && namesSeveralHosts(value)) {
      this.fault('DATABASE_URL names several hosts; the service connects to one, the primary. Name a TCP proxy that follows the primary, such as deploy/haproxy/postgres.cfg.')
      return undefined
    }
    const url = this.url('DATABASE_URL', ['postgresql:', 'postgres:'], value)
    if (url === undefined && password !== undefined) this.fault('DATABASE_PASSWORD is set and DATABASE_URL is not; set both, or neither.')
    if (url === undefined || !URL.canParse(url)) return url
    const schema = new URL(url).searchParams.get('schema') ?? ''
    // Prisma quotes the name without escaping it, and Postgres cuts it at 63 bytes.
    if (/["\\]/.test(schema) || Buffer.byteLength(schema) > 63) this.fault('The schema that DATABASE_URL names has a quotation mark, a backslash, or more than 63 bytes. The service cannot use it; choose another name.')
    if (password !== undefined && passwordIn(url) !== undefined) this.fault('DATABASE_URL holds a password, and DATABASE_PASSWORD is set; set one.')
    const whole = password === undefined ? url : withPassword(url, password)
    // The password is a setting of its own wherever it stands, so that only its change can be told from a change of the URL.
    this.#note('DATABASE_URL', withPassword(url, ''), true)
    this.#note('DATABASE_PASSWORD', passwordIn(whole), true)
    return withSearchPath(whole, schema)
  }

  events (): Config['events'] {
    const url = this.callUrl('EVENTS_URL', 'set EVENTS_TOKEN instead')
    const token = this.secret('EVENTS_TOKEN')
    if (token !== undefined && url === undefined) this.fault('EVENTS_TOKEN is set and EVENTS_URL is not; set both, or neither.')
    return url === undefined ? undefined : { url, token }
  }

  called (prefix: string, defaultTimeoutMs: number): CalledService | undefined {
    const url = this.callUrl(`${prefix}_URL`, `set ${prefix}_TOKEN instead`)
    const token = this.secret(`${prefix}_TOKEN`)
    const timeoutMs = this.integer(`${prefix}_TIMEOUT_MS`, defaultTimeoutMs, 1, 600_000)
    if (url !== undefined && URL.canParse(url) && new URL(url).search + new URL(url).hash !== '') this.fault(`${prefix}_URL has a query or a fragment; it must end with a host or a path, because the service appends paths.`)
    if (token !== undefined && url === undefined) this.fault(`${prefix}_TOKEN is set and ${prefix}_URL is not; set both, or neither.`)
    return url === undefined ? undefined : { url, token, timeoutMs }
  }

  /** The key of the Standard Webhooks specification: plain, or base64 after whsec_. */
  notifySecret (bytesMin: number): string | undefined {
    const secret = this.secret('PAYMENTS_NOTIFY_SECRET')
    if (secret === undefined) return undefined
    const [, base64] = /^whsec_(.*)$/s.exec(secret) ?? []
    if (base64 !== undefined && !/^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2,3}={0,2})?$/.test(base64)) this.fault('PAYMENTS_NOTIFY_SECRET begins with whsec_, but the rest is not base64.')
    else if (Buffer.byteLength(base64 ?? secret, base64 === undefined ? 'utf8' : 'base64') < bytesMin) this.fault(`PAYMENTS_NOTIFY_SECRET is shorter than ${bytesMin} bytes; make one with: openssl rand -base64 32`)
    return secret
  }

  registry (): RegistryConfig | undefined {
    const [consulUrl, registerUrl, deregisterUrl] = ['REGISTRY_CONSUL_URL', 'REGISTRY_REGISTER_URL', 'REGISTRY_DEREGISTER_URL'].map(name => {
      return this.callUrl(name, 'set REGISTRY_TOKEN instead')
    })
    const settings = {
      token: this.secret('REGISTRY_TOKEN'),
      serviceName: this.text('REGISTRY_SERVICE_NAME', 'last-orders'),
      id: this.text('REGISTRY_ID'),
      address: this.text('REGISTRY_ADDRESS'),
      ttlMs: this.integer('REGISTRY_TTL_MS', 15_000, 1_000, 3_600_000)
    }
    if (consulUrl !== undefined && (registerUrl ?? deregisterUrl) !== undefined) this.fault('REGISTRY_CONSUL_URL and REGISTRY_REGISTER_URL or REGISTRY_DEREGISTER_URL are set; set either the first, or both of the others.')
    if (consulUrl !== undefined) return { ...settings, consulUrl }
    if (registerUrl !== undefined && deregisterUrl !== undefined) return { ...settings, registerUrl, deregisterUrl }
    if ((registerUrl ?? deregisterUrl) !== undefined) this.fault('Only one of REGISTRY_REGISTER_URL and REGISTRY_DEREGISTER_URL is set; set both, so that the service can also deregister.')
    return undefined
  }

  /** A URL for fetch(), which takes no user or password, and whose messages could reveal them. */
  callUrl (name: string, instead: string): string | undefined {
    const url = this.url(name, ['http:', 'https:'], this.text(name))
    if (url !== undefined && URL.canParse(url) && new URL(url).username + new URL(url).password !== '') this.fault(`${name} holds a user or a password; ${instead}.`)
    return url
  }

  /** The value may hold a password, so a fault does not repeat it. */
  url (name: string, protocols: string[], value: string | undefined): string | undefined {
    if (value !== undefined && !(URL.canParse(value) && protocols.includes(new URL(value).protocol))) {
      this.fault(`${name} is not a URL that begins with ${protocols.map(protocol => `${protocol}//`).join(' or ')}.`)
    }
    if (this.read.get(name)?.isSecret !== true) this.#note(name, value, false, value === undefined ? undefined : withoutSecrets(value))
    return value
  }

  environment (): string | undefined {
    const name = this.text('ENVIRONMENT')
    if (name !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) this.fault(`ENVIRONMENT is "${name}"; it takes a name such as staging: letters, digits, dots, hyphens and underscores, 63 at most.`)
    return name
  }

  central (): CentralConfig | undefined {
    const url = this.url('CONFIG_URL', centralProtocols, this.text('CONFIG_URL'))
    const token = this.secret('CONFIG_TOKEN')
    const cacheFile = this.text('CONFIG_CACHE_FILE')
    const reloadIntervalMs = this.integer('CONFIG_RELOAD_INTERVAL_MS', 60_000, 0, longestTimerMs)
    const reloadJitterMs = this.integer('CONFIG_RELOAD_JITTER_MS', 500, 0, longestTimerMs)
    for (const [name, value] of Object.entries({ CONFIG_TOKEN: token, CONFIG_CACHE_FILE: cacheFile })) {
      if (value !== undefined && url === undefined) this.fault(`${name} is set and CONFIG_URL is not; set both, or neither.`)
    }
    if (url === undefined) return undefined
    if (URL.canParse(url)) {
      const { username, password, protocol, hostname, pathname } = new URL(url)
      if (username + password !== '') this.fault('CONFIG_URL holds a user or a password; set CONFIG_TOKEN instead.')
      if (protocol === 'file:' ? hostname !== '' : hostname === '' || pathname.replaceAll('/', '') === '') {
        this.fault('CONFIG_URL names no place; it takes file:///folder, or a host and the prefix of one environment, such as etcd://host:2379/last-orders/production.')
      }
    }
    return { url, token, cacheFile, reloadIntervalMs, reloadJitterMs }
  }

  sealed (environment: string | undefined): SealedConfig | undefined {
    const file = this.text('CONFIG_SEALED_FILE')
    const keyFile = this.text('CONFIG_SEALED_KEY_FILE')
    if (keyFile !== undefined && file === undefined) this.fault('CONFIG_SEALED_KEY_FILE is set and CONFIG_SEALED_FILE is not; set both, or neither.')
    if (file === undefined) return undefined
    if (environment === undefined) this.fault('CONFIG_SEALED_FILE is set and ENVIRONMENT is not; set both, because a sealed file belongs to one environment.')
    return { file, keyFile, environment: environment ?? '' }
  }

  #valueOf (name: string): string | undefined {
    return this.#environment[name] || undefined
  }

  #note (name: string, value: string | undefined, isSecret = false, shown = value): void {
    this.read.set(name, { name, isSecret, shown: isSecret ? undefined : shown, digest: value === undefined ? '' : hash('sha256', value, 'base64') })
  }
}

const centralProtocols = ['etcd:', 'etcd+https:', 'consul:', 'consul+https:', 'nacos:', 'nacos+https:', 'file:']

/** A URL without its user, password and query, which may be secrets. */
function withoutSecrets (url: string): string {
  if (!URL.canParse(url)) return '…'
  const { protocol, host, pathname, username, password, search } = new URL(url)
  if (username + password + search === '') return url
  return `${protocol}//${username + password === '' ? '' : '…@'}${host}${pathname}${search === '' ? '' : '?…'}`
}

/** The password in a URL of Postgres; undefined: none. */
export function passwordIn (url: string): string | undefined {
  const { password, searchParams } = new URL(url)
  return decoded(password) || searchParams.get('password') || undefined
}

/** Returns text with invalid percent-encoding as it is. */
function decoded (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** The URL with this password; empty: without one. */
export function withPassword (url: string, password: string): string {
  const parsed = new URL(url)
  parsed.searchParams.delete('password')
  parsed.password = ''
  if (password === '') return parsed.href
  // A URL without a host, which names a socket by ?host=, cannot have a password in its authority.
  if (parsed.hostname === '') parsed.searchParams.set('password', password)
  else parsed.password = encodeURIComponent(password)
  return parsed.href
}

/** In libpq's form: `host1:5432,host2:5432`, or `?host=host1,host2`. */
function namesSeveralHosts (url: string): boolean {
  const [, authority = ''] = /^postgres(?:ql)?:\/\/([^/?#]*)/.exec(url) ?? []
  return authority.slice(authority.lastIndexOf('@') + 1).includes(',') || /[?&]host(addr)?=[^&#]*(,|%2c)/i.test(url)
}

/**
 * Only Prisma knows `?schema=`; this makes it the search path of each connection. For `public` it sets none, so that a pooler
 * without `options` accepts the URL.
 */
function withSearchPath (url: string, schema: string): string {
  if (schema === '' || schema === 'public') return url
  const parsed = new URL(url)
  // An unescaped space would end the value.
  const path = '-c search_path=' + `"${schema}"`.replace(/\s/g, '\\$&')
  parsed.searchParams.set('options', [parsed.searchParams.get('options') ?? [], path].flat().join(' '))
  return parsed.href
}

function deepFreeze<T extends object> (value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object' && part !== null) deepFreeze(part)
  return Object.freeze(value)
}
