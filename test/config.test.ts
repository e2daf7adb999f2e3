import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { localSecret, localSecretFile } from '../auth/local-secret.ts'
import { ConfigError, databaseUrlOf, loadConfig, readEnvironment, versionOf, type Environment } from '../config.ts'
import { allowables } from '../config/production.ts'
import packageJson from '../package.json' with { type: 'json' }
import { secret as secretOfVerify } from '../proof/order-service.ts'

const ofIssuer = { NODE_ENV: 'production', DATABASE_URL: 'postgresql://db/orders', AUTH_JWKS_URL: 'https://issuer/keys' }
const needed = { DATABASE_URL: 'postgresql://db/orders', AUTH_JWT_SECRET: 'a secret for tests, of more than thirty-two bytes' }

function faultsOf (environment: Environment): string[] {
  try {
    loadConfig(environment)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.faults
  }
}

t.test('without settings the defaults suit a development machine', async t => {
  t.same(loadConfig({}), {
    production: false,
    environment: undefined,
    central: undefined,
    sealed: undefined,
    build: { version: packageJson.version, revision: undefined },
    host: '127.0.0.1',
    port: 3_000,
    ops: { host: '127.0.0.1', port: 3_001, token: undefined, allowedHosts: [] },
    agent: { host: '127.0.0.1', port: undefined },
    database: { url: undefined, pool: 10, migrateOnStart: true },
    auth: { secret: undefined, previousSecret: undefined, jwksUrl: undefined, issuer: undefined, audience: undefined },
    docs: true,
    corsOrigins: [],
    logLevel: 'info',
    drain: { minMs: 0, quietMs: 0, maxMs: 0, deadlineMs: 25_000, reportFile: undefined },
    envoyHealthHeader: false,
    orcaLoadMetrics: false,
    registry: undefined,
    events: undefined,
    payments: { gateway: undefined, capture: 'sale', notifySecret: undefined },
    customers: { directory: undefined, check: 'required' },
    orderExpiryMs: 86_400_000,
    webhooks: { privateAddresses: false },
    tracing: { followsCallers: true, export: undefined },
    retention: { outboxMs: 0, stopsMs: 7_776_000_000, deliveriesMs: 2_592_000_000 },
    requestTimeoutMs: 10_000,
    maxConnections: 1_000,
    connectionsPerAddress: undefined,
    trustedProxies: [],
    streams: { max: 500, perCustomer: 100 },
    intake: { batchMax: 128, inFlight: 4, queueMax: 10_000, queuePerCustomer: 1_000 },
    rateLimit: undefined,
    rateLimitStore: undefined
  })
})

t.test('in production a stop waits for balancers by default', async t => {
  t.same(loadConfig({ ...needed, NODE_ENV: 'production' }).drain, { minMs: 5_000, quietMs: 1_000, maxMs: 15_000, deadlineMs: 25_000, reportFile: undefined })
})

t.test('production refuses settings for development, unless ALLOW_IN_PRODUCTION names them', async t => {
  const production = { ...needed, NODE_ENV: 'production' }
  t.same(faultsOf(production), [])
  t.match(faultsOf({ NODE_ENV: 'production' }), [/^AUTH_JWT_SECRET and AUTH_JWKS_URL are both absent/, /^DATABASE_URL is not set in production/])
  t.throws(() => databaseUrlOf({ NODE_ENV: 'production' }), { message: /DATABASE_URL is not set in production/ }, 'the migrator refuses them too')
  t.equal(databaseUrlOf({ NODE_ENV: 'production', ALLOW_IN_PRODUCTION: 'embedded-postgres' }), undefined)

  const others: Array<[settings: Environment, allowable: string, told: RegExp]> = [
    [{ AUTH_JWT_SECRET: needed.AUTH_JWT_SECRET, DATABASE_URL: '' }, 'embedded-postgres', /^DATABASE_URL is not set/],
    [{ ...needed, LOG_LEVEL: 'debug' }, 'debug-logging', /^LOG_LEVEL is "debug" in production/],
    [{ ...needed, LOG_LEVEL: 'trace' }, 'debug-logging', /^LOG_LEVEL is "trace" in production/],
    [{ ...needed, AUTH_JWT_SECRET: secretOfVerify }, 'known-secrets', /^AUTH_JWT_SECRET is a secret that others know/],
    [{ ...needed, AUTH_JWT_SECRET_PREVIOUS: secretOfVerify }, 'known-secrets', /^AUTH_JWT_SECRET_PREVIOUS is a secret that others know/],
    [{ ...needed, OPS_TOKEN: secretOfVerify }, 'known-secrets', /^OPS_TOKEN is a secret that others know/]
  ]
  for (const [settings, allowable, told] of others) {
    t.match(faultsOf({ ...settings, NODE_ENV: 'production' }), [told])
    t.equal(faultsOf({ ...settings, NODE_ENV: 'production' }).length, 1)
    t.match(faultsOf({ ...settings, NODE_ENV: 'production', ALLOW_IN_PRODUCTION: allowables.filter(name => name !== allowable).join() }), [told], 'the other exceptions do not allow it')
    t.same(faultsOf({ ...settings, NODE_ENV: 'production', ALLOW_IN_PRODUCTION: ` ${allowable} ,` }), [])
    t.same(faultsOf({ ...settings, NODE_ENV: 'development' }), [], 'development accepts it')
  }
  t.equal(loadConfig(production).docs, false)
})

t.test('production refuses the secret that was made for the embedded Postgres', async t => {
  localSecret()
  const made = readFileSync(localSecretFile, 'utf8')
  t.match(faultsOf({ ...needed, NODE_ENV: 'production', AUTH_JWT_SECRET: made }), [/^AUTH_JWT_SECRET is a secret that others know/])
  t.same(faultsOf({ ...needed, AUTH_JWT_SECRET: made }), [])
})

t.test('an operators\' port that others can reach needs a token', async t => {
  for (const OPS_HOST of ['0.0.0.0', '::', '10.0.0.1', 'orders.internal']) {
    t.match(faultsOf({ OPS_HOST }), [/^OPS_TOKEN is not set, and OPS_HOST \(.+\) is not loopback/], OPS_HOST)
    t.same(faultsOf({ OPS_HOST, OPS_TOKEN: 'of the operators' }), [])
  }
  for (const OPS_HOST of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1', 'localhost']) t.same(faultsOf({ OPS_HOST }), [], OPS_HOST)
})

t.test('CORS_ORIGINS takes origins as browsers send them, and OPS_ALLOWED_HOSTS names without a port', async t => {
  for (const origin of ['*', 'null', 'shop.example', 'https://shop.example/', 'https://shop.example:443', 'https://SHOP.example', 'ftp://shop.example', 'https://me@shop.example']) t.match(faultsOf({ CORS_ORIGINS: `https://a,${origin}` }), [/^CORS_ORIGINS has "/], origin)
  for (const host of ['*', 'a:1', 'http://a', 'a/b', '*.example', '.example']) t.match(faultsOf({ OPS_ALLOWED_HOSTS: host }), [/^OPS_ALLOWED_HOSTS has "/], host)
})

t.test('loadConfig reads each setting', async t => {
  t.same(loadConfig({
    NODE_ENV: 'production',
    ENVIRONMENT: 'staging-2',
    CONFIG_URL: 'etcd://etcd:2379/last-orders/staging-2',
    CONFIG_TOKEN: 'orders:a password',
    CONFIG_CACHE_FILE: '/var/cache/last-orders.json',
    CONFIG_SEALED_FILE: '/etc/last-orders/sealed.json',
    CONFIG_SEALED_KEY_FILE: '/run/secrets/age',
    CONFIG_RELOAD_INTERVAL_MS: '7',
    CONFIG_RELOAD_JITTER_MS: '8',
    REVISION: '3c52eb7',
    PORT: '0',
    HOST: '0.0.0.0',
    OPS_PORT: '65535',
    OPS_HOST: '::1',
    OPS_TOKEN: 'ops',
    OPS_ALLOWED_HOSTS: 'orders-ops, Ops.example',
    AGENT_PORT: '9',
    AGENT_HOST: '127.0.0.2',
    DATABASE_URL: 'postgres://user@db/orders',
    DATABASE_POOL: '7',
    MIGRATE_ON_START: 'false',
    AUTH_JWKS_URL: 'https://issuer/keys',
    AUTH_ISSUER: 'https://issuer/',
    AUTH_AUDIENCE: 'last-orders, bar',
    DOCS: 'true',
    CORS_ORIGINS: 'https://shop.example,http://localhost:8080',
    LOG_LEVEL: 'warn',
    DRAIN_MIN_MS: '1',
    DRAIN_QUIET_MS: '2',
    DRAIN_MAX_MS: '3',
    DRAIN_DEADLINE_MS: '4000',
    DRAIN_REPORT_FILE: '/dev/termination-log',
    ENVOY_HEALTH_HEADER: 'true',
    ORCA_LOAD_METRICS: 'true',
    REGISTRY_CONSUL_URL: 'http://consul:8500',
    REGISTRY_TOKEN: 'registry',
    EVENTS_URL: 'https://bridge/orders',
    EVENTS_TOKEN: 'bridge',
    PAYMENTS_URL: 'https://gateway/v1',
    PAYMENTS_TOKEN: 'gateway',
    PAYMENTS_TIMEOUT_MS: '400',
    PAYMENTS_CAPTURE: 'ship',
    PAYMENTS_NOTIFY_SECRET: 'whsec_bm90IGEgc2VjcmV0IGF0IGFsbCwgYW5kIG9mIDI0IGJ5dGVz',
    CUSTOMERS_URL: 'http://directory',
    CUSTOMERS_TOKEN: 'directory',
    CUSTOMERS_TIMEOUT_MS: '300',
    CUSTOMER_CHECK: 'tolerant',
    ORDER_EXPIRY_MS: '0',
    WEBHOOKS_PRIVATE_ADDRESSES: 'true',
    WEBHOOKS_RETENTION_MS: '5',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%2Cb, x-team = cellar',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_SERVICE_NAME: 'orders',
    OTEL_RESOURCE_ATTRIBUTES: 'service.name=other,cloud.region=eu',
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: '0.01',
    OTEL_PROPAGATORS: 'tracecontext',
    REGISTRY_SERVICE_NAME: 'orders',
    REGISTRY_ID: 'orders-1',
    REGISTRY_ADDRESS: '10.0.0.1',
    REGISTRY_TTL_MS: '3000',
    OUTBOX_RETENTION_MS: '1000',
    STOPS_RETENTION_MS: '0',
    REQUEST_TIMEOUT_MS: '500',
    MAX_CONNECTIONS: '6',
    CONNECTIONS_PER_ADDRESS: '3',
    TRUSTED_PROXIES: '10.0.0.0/8, 2001:db8::1',
    STREAMS_MAX: '2',
    STREAMS_PER_CUSTOMER: '1',
    INTAKE_BATCH_MAX: '8',
    INTAKE_IN_FLIGHT: '5',
    INTAKE_QUEUE_MAX: '9',
    INTAKE_QUEUE_PER_CUSTOMER: '3',
    RATE_LIMIT: '60',
    RATE_LIMIT_STORE: 'rediss://:hunter2@store:6379/1'
  }), {
    production: true,
    environment: 'staging-2',
    central: { url: 'etcd://etcd:2379/last-orders/staging-2', token: 'orders:a password', cacheFile: '/var/cache/last-orders.json', reloadIntervalMs: 7, reloadJitterMs: 8 },
    sealed: { file: '/etc/last-orders/sealed.json', keyFile: '/run/secrets/age', environment: 'staging-2' },
    build: { version: packageJson.version, revision: '3c52eb7' },
    host: '0.0.0.0',
    port: 0,
    ops: { host: '::1', port: 65_535, token: 'ops', allowedHosts: ['orders-ops', 'ops.example'] },
    agent: { host: '127.0.0.2', port: 9 },
    database: { url: 'postgres://user@db/orders', pool: 7, migrateOnStart: false },
    auth: { secret: undefined, previousSecret: undefined, jwksUrl: 'https://issuer/keys', issuer: 'https://issuer/', audience: ['last-orders', 'bar'] },
    docs: true,
    corsOrigins: ['https://shop.example', 'http://localhost:8080'],
    logLevel: 'warn',
    drain: { minMs: 1, quietMs: 2, maxMs: 3, deadlineMs: 4_000, reportFile: '/dev/termination-log' },
    envoyHealthHeader: true,
    orcaLoadMetrics: true,
    events: { url: 'https://bridge/orders', token: 'bridge' },
    payments: { gateway: { url: 'https://gateway/v1', token: 'gateway', timeoutMs: 400 }, capture: 'ship', notifySecret: 'whsec_bm90IGEgc2VjcmV0IGF0IGFsbCwgYW5kIG9mIDI0IGJ5dGVz' },
    customers: { directory: { url: 'http://directory', token: 'directory', timeoutMs: 300 }, check: 'tolerant' },
    orderExpiryMs: 0,
    webhooks: { privateAddresses: true },
    tracing: {
      followsCallers: true,
      export: {
        url: 'http://collector:4318/v1/traces',
        headers: { 'x-key': 'a,b', 'x-team': 'cellar' },
        sampler: { name: 'parentbased_traceidratio', ratio: 0.01 },
        propagators: ['tracecontext'],
        attributes: { 'service.name': 'orders', 'service.version': versionOf(loadConfig({ REVISION: '3c52eb7' })), 'deployment.environment.name': 'staging-2', 'cloud.region': 'eu' }
      }
    },
    registry: { consulUrl: 'http://consul:8500', token: 'registry', serviceName: 'orders', id: 'orders-1', address: '10.0.0.1', ttlMs: 3_000 },
    retention: { outboxMs: 1_000, stopsMs: 0, deliveriesMs: 5 },
    requestTimeoutMs: 500,
    maxConnections: 6,
    connectionsPerAddress: 3,
    trustedProxies: ['10.0.0.0/8', '2001:db8::1'],
    streams: { max: 2, perCustomer: 1 },
    intake: { batchMax: 8, inFlight: 5, queueMax: 9, queuePerCustomer: 3 },
    rateLimit: 60,
    rateLimitStore: 'rediss://:hunter2@store:6379/1'
  })
  t.equal(loadConfig({ RATE_LIMIT: 'off' }).rateLimit, undefined)
  t.equal(loadConfig({ CONNECTIONS_PER_ADDRESS: 'off' }).connectionsPerAddress, undefined)
  t.same(loadConfig({ MAX_CONNECTIONS: '5000' }).streams, { max: 2_500, perCustomer: 500 })
  t.same(loadConfig({ AGENT_PORT: '9', OPS_HOST: '0.0.0.0', OPS_TOKEN: 'ops' }).agent, { host: '0.0.0.0', port: 9 })
  t.same(loadConfig({ REGISTRY_REGISTER_URL: 'https://registry/in', REGISTRY_DEREGISTER_URL: 'https://registry/out' }).registry, {
    registerUrl: 'https://registry/in', deregisterUrl: 'https://registry/out', token: undefined, serviceName: 'last-orders', id: undefined, address: undefined, ttlMs: 15_000
  })
})

t.test('an OTLP endpoint switches traces on, by the rules of OpenTelemetry', async t => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318/' }
  const tracingOf = (settings: Environment) => loadConfig(settings).tracing
  t.match(tracingOf(endpoint).export, { url: 'http://collector:4318/v1/traces', sampler: { name: 'parentbased_always_on' }, attributes: { 'service.name': 'last-orders' } })
  t.match(tracingOf({ ...endpoint, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://traces/in', OTEL_EXPORTER_OTLP_HEADERS: 'a=1', OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'b=2' }).export, { url: 'https://traces/in', headers: { b: '2' } })
  t.equal(tracingOf({ ...endpoint, OTEL_SDK_DISABLED: 'true' }).export, undefined)
  t.equal(tracingOf({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }).export, undefined)
  t.equal(tracingOf({ OTEL_SERVICE_NAME: 'orders' }).export, undefined)
  t.same(tracingOf({ OTEL_PROPAGATORS: 'none' }), { followsCallers: false, export: undefined })
})

t.test('a loaded configuration cannot be changed', async t => {
  const config = loadConfig({})
  t.throws(() => Object.assign(config, { port: 1 }), TypeError)
  t.throws(() => Object.assign(config.ops, { token: 'x' }), TypeError)
})

t.test('an empty setting counts as absent', async t => {
  const names = [...namesRead()]
  t.same(loadConfig(Object.fromEntries(names.map(name => [name, '']))), loadConfig({}))
})

t.test('loadConfig reports all faults at once, each with the name of its setting', async t => {
  const wrong: Environment = {
    NODE_ENV: 'prod',
    ENVIRONMENT: 'the pub',
    CONFIG_URL: 'zookeeper://zk/last-orders',
    CONFIG_RELOAD_INTERVAL_MS: '1m',
    CONFIG_RELOAD_JITTER_MS: '-1',
    PORT: '65536',
    OPS_PORT: '-1',
    AGENT_PORT: 'none',
    DATABASE_URL: 'mysql://db',
    DATABASE_POOL: '1',
    MIGRATE_ON_START: 'yes',
    AUTH_JWKS_URL: 'issuer/keys',
    ALLOW_IN_PRODUCTION: 'everything',
    OPS_ALLOWED_HOSTS: 'ops.example:3001',
    DOCS: 'yes',
    CORS_ORIGINS: 'https://shop.example/',
    LOG_LEVEL: 'loud',
    DRAIN_MIN_MS: '1.5',
    DRAIN_QUIET_MS: '1e3',
    DRAIN_MAX_MS: '2147483648',
    DRAIN_DEADLINE_MS: '0',
    ENVOY_HEALTH_HEADER: 'on',
    ORCA_LOAD_METRICS: 'on',
    REGISTRY_CONSUL_URL: 'consul:8500',
    REGISTRY_TTL_MS: '999',
    EVENTS_URL: 'amqp://broker',
    PAYMENTS_URL: 'gateway:443',
    PAYMENTS_TIMEOUT_MS: '0',
    PAYMENTS_CAPTURE: 'later',
    PAYMENTS_NOTIFY_SECRET: 'whsec_?',
    CUSTOMERS_URL: 'ldap://directory',
    CUSTOMERS_TIMEOUT_MS: '2s',
    CUSTOMER_CHECK: 'off',
    ORDER_EXPIRY_MS: '-1',
    OTEL_SDK_DISABLED: 'maybe',
    OTEL_TRACES_EXPORTER: 'zipkin',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'grpc://collector',
    OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/protobuf',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key',
    OTEL_RESOURCE_ATTRIBUTES: 'team=50%',
    OTEL_TRACES_SAMPLER: 'jaeger_remote',
    OTEL_PROPAGATORS: 'tracecontext,b3',
    REQUEST_TIMEOUT_MS: '0x10',
    MAX_CONNECTIONS: ' ',
    CONNECTIONS_PER_ADDRESS: '0',
    TRUSTED_PROXIES: '10.0.0.0/33, 127.0.0.1, balancer',
    STREAMS_MAX: '-1',
    STREAMS_PER_CUSTOMER: 'few',
    INTAKE_BATCH_MAX: '0',
    INTAKE_IN_FLIGHT: 'many',
    INTAKE_QUEUE_MAX: '9007199254740993',
    RATE_LIMIT: 'on',
    RATE_LIMIT_STORE: 'memcached://store'
  }
  const faults = faultsOf(wrong)
  for (const name of Object.keys(wrong)) t.equal(faults.filter(fault => fault.startsWith(`${name} `)).length, 1, name)
  t.equal(faults.length, Object.keys(wrong).length)
  t.throws(() => loadConfig(wrong), { message: faults.map(fault => `  - ${fault}`).join('\n') })
})

t.test('loadConfig reports settings that do not fit together', async t => {
  const pairs: Array<[settings: Environment, told: RegExp]> = [
    [{ ...needed, AUTH_JWKS_URL: 'https://issuer/keys' }, /AUTH_JWT_SECRET and AUTH_JWKS_URL are both set/],
    [{ DATABASE_URL: needed.DATABASE_URL }, /neither AUTH_JWT_SECRET nor AUTH_JWKS_URL/],
    [{ DATABASE_URL: needed.DATABASE_URL, AUTH_JWKS_URL_FILE: '/no/secret/so/no/file' }, /neither AUTH_JWT_SECRET nor AUTH_JWKS_URL/],
    [{ ...needed, NODE_ENV: 'production', AUTH_JWT_SECRET: 's'.repeat(31) }, /AUTH_JWT_SECRET is shorter than 32 bytes/],
    [{ ...needed, NODE_ENV: 'production', AUTH_JWT_SECRET_PREVIOUS: 's'.repeat(31) }, /AUTH_JWT_SECRET_PREVIOUS is shorter than 32 bytes/],
    [{ AUTH_JWT_SECRET_PREVIOUS: needed.AUTH_JWT_SECRET }, /AUTH_JWT_SECRET_PREVIOUS is set and AUTH_JWT_SECRET is not/],
    [{ ...ofIssuer, AUTH_AUDIENCE: 'last-orders' }, /AUTH_JWKS_URL is set and AUTH_ISSUER is not; .* iss,/],
    [{ ...ofIssuer, AUTH_ISSUER: 'https://issuer/', AUTH_AUDIENCE: ' , ' }, /AUTH_AUDIENCE names nobody/],
    [{ ...ofIssuer, AUTH_ISSUER: 'https://issuer/' }, /AUTH_JWKS_URL is set and AUTH_AUDIENCE is not; .* aud,/],
    [{ MAX_CONNECTIONS: '5', STREAMS_MAX: '6' }, /STREAMS_MAX \(6\) is above MAX_CONNECTIONS \(5\)/],
    [{ DRAIN_MIN_MS: '2', DRAIN_MAX_MS: '1' }, /DRAIN_MIN_MS \(2\) is above DRAIN_MAX_MS \(1\)/],
    [{ DRAIN_QUIET_MS: '2', DRAIN_MAX_MS: '1' }, /DRAIN_QUIET_MS \(2\) is above DRAIN_MAX_MS \(1\)/],
    [{ DRAIN_MAX_MS: '15001' }, /DRAIN_MAX_MS \(15001\) and REQUEST_TIMEOUT_MS \(10000\) do not fit into DRAIN_DEADLINE_MS \(25000\)/],
    [{ REGISTRY_CONSUL_URL: 'http://consul', REGISTRY_REGISTER_URL: 'http://in', REGISTRY_DEREGISTER_URL: 'http://out' }, /REGISTRY_CONSUL_URL and REGISTRY_REGISTER_URL/],
    [{ CONFIG_SEALED_KEY_FILE: '/run/secrets/age' }, /CONFIG_SEALED_KEY_FILE is set and CONFIG_SEALED_FILE is not/],
    [{ CONFIG_SEALED_FILE: '/sealed.json' }, /CONFIG_SEALED_FILE is set and ENVIRONMENT is not/],
    [{ CONFIG_TOKEN: 'a:b' }, /CONFIG_TOKEN is set and CONFIG_URL is not/],
    [{ CONFIG_CACHE_FILE: '/copy' }, /CONFIG_CACHE_FILE is set and CONFIG_URL is not/],
    [{ CONFIG_URL: 'etcd://a:b@etcd/last-orders' }, /CONFIG_URL holds a user or a password/],
    [{ CONFIG_URL: 'consul://consul:8500/' }, /CONFIG_URL names no place/],
    [{ CONFIG_URL: 'file://host/folder' }, /CONFIG_URL names no place/],
    [{ REGISTRY_REGISTER_URL: 'http://in' }, /Only one of REGISTRY_REGISTER_URL and REGISTRY_DEREGISTER_URL is set/],
    [{ REGISTRY_DEREGISTER_URL: 'http://out' }, /Only one of REGISTRY_REGISTER_URL and REGISTRY_DEREGISTER_URL is set/],
    [{ REGISTRY_CONSUL_URL: 'http://user@consul' }, /REGISTRY_CONSUL_URL holds a user or a password/],
    [{ EVENTS_URL: 'http://user@bridge' }, /EVENTS_URL holds a user or a password/],
    [{ EVENTS_TOKEN: 'bridge' }, /EVENTS_TOKEN is set and EVENTS_URL is not/],
    [{ PAYMENTS_URL: 'http://user@gateway' }, /PAYMENTS_URL holds a user or a password/],
    [{ PAYMENTS_URL: 'http://gateway?key=1' }, /PAYMENTS_URL has a query or a fragment/],
    [{ PAYMENTS_TOKEN: 'gateway' }, /PAYMENTS_TOKEN is set and PAYMENTS_URL is not/],
    [{ CUSTOMERS_TOKEN: 'directory' }, /CUSTOMERS_TOKEN is set and CUSTOMERS_URL is not/],
    [{ ...needed, PAYMENTS_NOTIFY_SECRET: 'whsec_' }, /PAYMENTS_NOTIFY_SECRET is shorter than 1 bytes/],
    [{ ...needed, NODE_ENV: 'production', PAYMENTS_NOTIFY_SECRET: 'whsec_c2hvcnQsIHdpdGggaXRzIHByZWZpeA==' }, /PAYMENTS_NOTIFY_SECRET is shorter than 24 bytes/],
    [{ ...needed, NODE_ENV: 'production', PAYMENTS_NOTIFY_SECRET: 'short' }, /PAYMENTS_NOTIFY_SECRET is shorter than 24 bytes/],
    [{ OTEL_TRACES_SAMPLER_ARG: '0.01' }, /OTEL_TRACES_SAMPLER_ARG is set, and the sampler parentbased_always_on takes none/],
    [{ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '1 %' }, /OTEL_TRACES_SAMPLER_ARG is "1 %"; it takes a share/],
    [{ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '1.01' }, /OTEL_TRACES_SAMPLER_ARG is "1.01"; it takes a share/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user@collector' }, /OTEL_EXPORTER_OTLP_ENDPOINT holds a user or a password/],
    [{ INTAKE_QUEUE_MAX: '9', INTAKE_QUEUE_PER_CUSTOMER: '10' }, /INTAKE_QUEUE_PER_CUSTOMER \(10\) is above INTAKE_QUEUE_MAX \(9\)/],
    [{ DATABASE_POOL: '4' }, /INTAKE_IN_FLIGHT \(4\) is not below DATABASE_POOL \(4\)/]
  ]
  for (const [settings, told] of pairs) {
    const faults = faultsOf(settings)
    t.equal(faults.length, 1, told.source)
    t.match(faults[0], told)
  }
  t.same(faultsOf({ DRAIN_MAX_MS: '15000' }), [], 'phases that just fit are accepted')
})

t.test('a secret is read from the file that NAME_FILE names', async t => {
  const dir = t.testdir({ token: 'from a file\n', secret: needed.AUTH_JWT_SECRET, url: needed.DATABASE_URL, empty: ' \n' })
  const config = loadConfig({ OPS_TOKEN_FILE: join(dir, 'token'), AUTH_JWT_SECRET_FILE: join(dir, 'secret'), AUTH_JWT_SECRET_PREVIOUS_FILE: join(dir, 'token'), DATABASE_URL_FILE: join(dir, 'url'), REGISTRY_TOKEN_FILE: join(dir, 'token'), REGISTRY_CONSUL_URL: 'http://consul' })
  t.match(config, { registry: { token: 'from a file' }, ops: { token: 'from a file' }, auth: { secret: needed.AUTH_JWT_SECRET, previousSecret: 'from a file' }, database: { url: needed.DATABASE_URL } })
  t.equal(loadConfig({ OPS_TOKEN: 'plain', OPS_TOKEN_FILE: '' }).ops.token, 'plain')

  t.match(faultsOf({ OPS_TOKEN_FILE: join(dir, 'empty') }), [/^OPS_TOKEN_FILE .* empty/])
  t.match(faultsOf({ OPS_TOKEN_FILE: join(dir, 'absent') }), [/^OPS_TOKEN_FILE .*ENOENT/])
  t.match(faultsOf({ OPS_TOKEN: 'plain', OPS_TOKEN_FILE: join(dir, 'token') }), [/^OPS_TOKEN and OPS_TOKEN_FILE are both set/])
})

t.test('no message about a fault contains a secret', async t => {
  const dir = t.testdir({ url: 'mysql://user:hunter2@db' })
  const faults = faultsOf({
    NODE_ENV: 'production',
    DATABASE_URL: 'mysql://user:hunter2@db',
    AUTH_JWT_SECRET: 'hunter2',
    AUTH_JWT_SECRET_PREVIOUS: 'hunter2',
    AUTH_JWKS_URL: 'ftp://user:hunter2@issuer',
    CONFIG_URL: 'etcd://user:hunter2@etcd',
    CONFIG_TOKEN: 'hunter2',
    OPS_TOKEN: 'hunter2',
    OPS_TOKEN_FILE: join(dir, 'url'),
    REGISTRY_CONSUL_URL: 'http://user:hunter2@consul',
    REGISTRY_REGISTER_URL: 'ftp://registry?key=hunter2',
    EVENTS_URL: 'http://user:hunter2@bridge',
    PAYMENTS_URL: 'http://gateway?key=hunter2',
    PAYMENTS_NOTIFY_SECRET: 'whsec_hunter2?',
    CUSTOMERS_TOKEN: 'hunter2',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://user:hunter2@collector',
    OTEL_EXPORTER_OTLP_HEADERS: 'authorization hunter2'
  })
  t.ok(faults.length >= 4)
  t.notMatch(faults.join('\n'), 'hunter2')
  t.notMatch(faultsOf({ ...needed, DATABASE_URL_FILE: join(dir, 'url') }).join('\n'), 'hunter2')
})

t.test('the environment overrides the file .env, and the file may be absent', async t => {
  const dir = t.testdir({ '.env': 'LAST_ORDERS_TEST_A=file\nLAST_ORDERS_TEST_B="of # the file"\n' })
  process.env.LAST_ORDERS_TEST_A = 'environment'
  t.teardown(() => { delete process.env.LAST_ORDERS_TEST_A })
  t.match(readEnvironment(join(dir, '.env')), { LAST_ORDERS_TEST_A: 'environment', LAST_ORDERS_TEST_B: 'of # the file' })
  t.match(readEnvironment(join(dir, 'absent')), { LAST_ORDERS_TEST_A: 'environment' })
  t.throws(() => readEnvironment(dir), { code: 'EISDIR' }, 'a file that exists and cannot be read is a fault')
})

t.test('.env.example has every setting, and no other', async t => {
  const file = join(import.meta.dirname, '../.env.example')
  const text = readFileSync(file, 'utf8')
  const read = namesRead()
  const settings = new Set([...read].filter(name => !name.endsWith('_FILE')))
  const shown = new Set([...text.matchAll(/^#? ?([A-Z][A-Z_]+)=/gm)].map(([, name = '']) => name))
  t.same([...settings].filter(name => !shown.has(name)), [], 'every setting is shown')
  t.same([...shown].filter(name => !read.has(name)), [], 'every name that is shown is a setting')
  t.ok(settings.size > 20)
})

/** The names that loadConfig reads. */
function namesRead (): Set<string> {
  const names = new Set<string>()
  loadConfig(new Proxy({}, {
    get (_target, name) {
      names.add(String(name))
      return undefined
    }
  }))
  return names
}

t.test('several hosts in DATABASE_URL are refused, and the message says what to use instead', async t => {
  for (const url of [
    'postgresql://u:p@10.0.0.1:5432,10.0.0.2:5432/orders?target_session_attrs=read-write',
    'postgres://db-1,db-2/orders',
    'postgresql://db/orders?host=db-1,db-2',
    'postgresql:///orders?host=db-1%2Cdb-2'
  ]) t.match(faultsOf({ ...needed, DATABASE_URL: url }), [/^DATABASE_URL names several hosts; the service connects to one.*deploy\/haproxy\/postgres\.cfg/], url)
  t.same(faultsOf({ ...needed, DATABASE_URL: 'postgresql://me:a,b@db/orders' }), [], 'a password may hold a comma')
})

t.test('the schema in DATABASE_URL becomes the search path of each connection', async t => {
  const optionsOf = (url: string): string | null => new URL(loadConfig({ ...needed, DATABASE_URL: url }).database.url ?? '').searchParams.get('options')
  t.equal(optionsOf('postgresql://db/orders?schema=shop'), '-c search_path="shop"')
  t.equal(optionsOf('postgresql://db/orders?schema=The%20Shop&options=-c%20jit%3Doff'), '-c jit=off -c search_path="The\\ Shop"')
  t.equal(optionsOf('postgresql://db/orders?schema=public'), null)
  for (const name of ['"', '\\', 'x'.repeat(64)]) {
    t.match(faultsOf({ ...needed, DATABASE_URL: `postgresql://db/orders?schema=${encodeURIComponent(name)}` }), [/^The schema that DATABASE_URL names/])
  }
})
