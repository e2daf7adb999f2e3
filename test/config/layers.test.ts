import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { keepCopy, Layers, readLayers, SourceUnavailable, type Local } from '../../config/layers.ts'
import type { Source } from '../../config/source.ts'
import { startConsulKv } from './consul-kv.ts'

const run = promisify(execFile)
const secret = 'a secret for tests, of more than thirty-two bytes'

const source: Source = {
  name: 'etcd://etcd/last-orders/staging',
  read: async () => { throw new Error('not asked') },
  next: async () => { throw new Error('not asked') }
}

function layersOf (central: Record<string, string>, local: Partial<Local> = {}): Layers {
  return new Layers({ file: {}, process: {}, ...local }, { source, snapshot: { values: central, version: 'revision 1' }, copiedAt: undefined })
}

function shown (layers: Layers, name: string): object {
  const { layer, value } = layers.shown(layers.judge()).find(setting => setting.name === name) ?? {}
  return { layer, value }
}

t.test('the last layer that has a setting decides: default, central, .env, environment; an empty value counts as absent', async t => {
  const layers = layersOf({ MAX_CONNECTIONS: '2', RATE_LIMIT: '2', LOG_LEVEL: 'warn', INTAKE_BATCH_MAX: '2' }, {
    file: { RATE_LIMIT: '3', LOG_LEVEL: 'error', INTAKE_BATCH_MAX: '' },
    process: { LOG_LEVEL: 'debug' }
  })
  t.same(shown(layers, 'INTAKE_QUEUE_MAX'), { layer: 'default', value: '10000' })
  t.same(shown(layers, 'MAX_CONNECTIONS'), { layer: 'central', value: '2' })
  t.same(shown(layers, 'INTAKE_BATCH_MAX'), { layer: 'central', value: '2' })
  t.same(shown(layers, 'RATE_LIMIT'), { layer: '.env', value: '3' })
  t.same(shown(layers, 'LOG_LEVEL'), { layer: 'environment', value: 'debug' })
  t.match(layers.judge().config, { maxConnections: 2, rateLimit: 3, logLevel: 'debug' })
})

t.test('the stronger layer decides between a secret and its file, and both in one layer are a fault', async t => {
  const file = join(t.testdir({ secret }), 'secret')
  const layers = layersOf({ AUTH_JWT_SECRET: 'of the source' }, { process: { AUTH_JWT_SECRET_FILE: file } })
  t.equal(layers.judge().config?.auth.secret, secret)
  t.same(shown(layers, 'AUTH_JWT_SECRET'), { layer: 'environment', value: null }, 'its value is not shown')
  t.match(layersOf({ AUTH_JWT_SECRET: 'plain', AUTH_JWT_SECRET_FILE: file }).judge().faults, [/^AUTH_JWT_SECRET and AUTH_JWT_SECRET_FILE are both set/])
})

t.test('the settings are shown without secrets, and without the part of a URL that may hold one', async t => {
  const layers = layersOf({}, {
    process: {
      DATABASE_URL: 'postgresql://user:hunter2@db/orders',
      AUTH_JWT_SECRET: 'hunter2',
      REGISTRY_REGISTER_URL: 'http://registry/in?key=hunter2',
      REGISTRY_DEREGISTER_URL: 'http://registry/out?key=hunter2',
      AUTH_JWKS_URL: 'hunter2',
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=hunter2'
    }
  })
  t.notMatch(JSON.stringify(layers.shown(layers.judge())), 'hunter2')
  t.same(shown(layers, 'REGISTRY_REGISTER_URL'), { layer: 'environment', value: 'http://registry/in?…' })
})

t.test('the central source can set neither its own address nor another environment', async t => {
  t.match(layersOf({ CONFIG_URL: 'etcd://other/last-orders/production', CONFIG_TOKEN: 'x' }).judge().faults, [/^CONFIG_URL is set in etcd:\/\/etcd/, /^CONFIG_TOKEN is set in/])
  t.match(layersOf({ ENVIRONMENT: 'production' }, { process: { ENVIRONMENT: 'staging' } }).judge().faults, [/^ENVIRONMENT is "staging", and .* of "production"/])
  t.equal(layersOf({ ENVIRONMENT: 'production' }).judge().config?.environment, 'production')
})

t.test('a name in the central source that is no setting is reported', async t => {
  const layers = layersOf({ LOG_LEVLE: 'warn', RATE_LIMIT: '1', AUTH_JWT_SECRET_FILE: '/run/secrets/x', PORT_FILE: '/x' })
  t.same(layers.strangers(layers.judge()), ['LOG_LEVLE', 'PORT_FILE'])
})

t.test('a start without its source uses the last good copy of that source, which has no secrets, or is refused', async t => {
  const consul = await startConsulKv(t)
  const directory = t.testdir({ payments: 'hunter2' })
  const payments = join(directory, 'payments')
  const cacheFile = join(directory, 'copy.json')
  const process = { CONFIG_URL: `consul://${consul.host}/last-orders/staging`, CONFIG_TOKEN: consul.token, CONFIG_CACHE_FILE: cacheFile }
  consul.put('last-orders/staging/RATE_LIMIT', '60')
  consul.put('last-orders/staging/OPS_TOKEN', 'hunter2')
  consul.put('last-orders/staging/PAYMENTS_TOKEN_FILE', payments)
  consul.put('last-orders/staging/PAYMENTS_URL', 'http://gateway')
  consul.put('last-orders/staging/REGISTRY_REGISTER_URL', 'http://registry?key=hunter2')
  consul.put('last-orders/staging/REGISTRY_DEREGISTER_URL', 'http://registry?key=hunter2')
  consul.put('last-orders/staging/LOG_LEVLE', 'hunter2')
  const read = await readLayers({ file: {}, process })
  await keepCopy(read, read.judge())
  t.notMatch(readFileSync(cacheFile, 'utf8'), 'hunter2')

  consul.token = 'another, so that the source refuses'
  const copied = await readLayers({ file: {}, process })
  t.same(copied.central?.snapshot.values, { RATE_LIMIT: '60', PAYMENTS_TOKEN_FILE: payments, PAYMENTS_URL: 'http://gateway' })
  t.ok(copied.central?.copiedAt instanceof Date)

  const elsewhere = { ...process, CONFIG_URL: `consul://${consul.host}/last-orders/production` }
  await t.rejects(readLayers({ file: {}, process: elsewhere }), new SourceUnavailable({ url: elsewhere.CONFIG_URL, token: undefined, cacheFile, reloadIntervalMs: 0, reloadJitterMs: 0 }, 'it answered 403', `The copy in CONFIG_CACHE_FILE (${cacheFile}) is of ${process.CONFIG_URL}.`))
  writeFileSync(cacheFile, '{')
  await t.rejects(readLayers({ file: {}, process }), { message: /answered 403.*holds no copy.*Nothing was started/ })
  await t.rejects(readLayers({ file: {}, process: { ...process, CONFIG_CACHE_FILE: '' } }), { message: /CONFIG_CACHE_FILE is not set.*Nothing was started/ })
})

t.test('npm run config shows each setting with its layer, and what a file of settings would change', async t => {
  const directory = t.testdir({ central: { RATE_LIMIT: '60', OPS_TOKEN: 'hunter2' }, 'good.env': 'RATE_LIMIT=61\nPORT=4000\n', 'bad.env': 'RATE_LIMIT=many\nLOG_LEVLE=warn\nAUTH_JWT_SECRET=hunter2\n' })
  const config = async (...args: string[]) => {
    const env = { PATH: process.env.PATH, CONFIG_URL: pathToFileURL(join(directory, 'central')).href, LOG_LEVEL: 'warn', DATABASE_URL: 'postgresql://db/orders', AUTH_JWT_SECRET: secret }
    return await run(process.execPath, [join(import.meta.dirname, '../../config/print.ts'), ...args], { env, cwd: directory }).then(({ stdout }) => ({ code: 0, stdout, stderr: '' }), (error: { code: number, stdout: string, stderr: string }) => error)
  }
  const all = await config()
  t.equal(all.code, 0)
  for (const line of [/^RATE_LIMIT +central +60$/m, /^LOG_LEVEL +environment +warn$/m, /^PORT +default +3000$/m, /^OPS_TOKEN +central +\(a secret\)$/m]) t.match(all.stdout, line)
  t.notMatch(all.stdout, 'hunter2')
  t.match(JSON.parse((await config('--json')).stdout), { settings: [{ name: 'AGENT_HOST', layer: 'default', value: '127.0.0.1' }] })

  const good = await config('--check', join(directory, 'good.env'))
  t.equal(good.code, 0)
  t.match(good.stdout, /^RATE_LIMIT: 60 → 61 +while the service runs$/m)
  t.match(good.stdout, /^PORT: 3000 → 4000 +takes a restart$/m)

  const bad = await config('--check', join(directory, 'bad.env'))
  t.equal(bad.code, 1)
  t.match(bad.stderr, /RATE_LIMIT is "many"/)
  t.match(bad.stderr, /LOG_LEVLE is no setting/)
  t.notMatch(bad.stdout + bad.stderr, 'hunter2')
  t.equal((await config('--check', join(directory, 'absent.env'))).code, 2)
  t.equal((await config('--chekc')).code, 2)
})
