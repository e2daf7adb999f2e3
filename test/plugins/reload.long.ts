import { randomUUID } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { signToken } from '../../auth/local-token.ts'
import { loadConfig, withPassword } from '../../config.ts'
import type { Central } from '../../config/layers.ts'
import { openSource } from '../../config/source.ts'
import { migrate } from '../../prisma/migrate.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import { secret, startApp, type AppOverrides, type RunningApp } from '../app.ts'
import { startCalled } from '../called.ts'
import { MountedFolder } from '../config/mounted.ts'
import { etcdMissing, startEtcd } from '../etcd.ts'
import { startService } from '../service.ts'

const quick = { CONFIG_RELOAD_INTERVAL_MS: '0', CONFIG_RELOAD_JITTER_MS: '0' }

t.test('a setting that may change does so while the service runs, and the log has its source, old and new value', async t => {
  const { app, folder, lines, central } = await startFollowing(t, { LOG_LEVEL: 'info', RATE_LIMIT: '1000', CUSTOMER_CHECK: 'required' })
  folder.write({ LOG_LEVEL: 'warn', RATE_LIMIT: '2', CUSTOMER_CHECK: 'tolerant', INTAKE_QUEUE_MAX: '7' })
  await until(() => app.app.settings.now.rateLimit === 2)
  t.equal(app.app.log.level, 'warn')
  t.match(app.app.settings.now, { logLevel: 'warn', rateLimit: 2, customers: { check: 'tolerant' }, intake: { queueMax: 7 } })
  t.match(lines.find(({ msg }) => msg === 'Settings were changed, and are in force.'), {
    source: central.source.name,
    version: /^content /,
    changes: [{ name: 'CUSTOMER_CHECK', from: 'required', to: 'tolerant' }, { name: 'INTAKE_QUEUE_MAX', from: '10000', to: '7' }, { name: 'INTAKE_QUEUE_PER_CUSTOMER', from: '1000', to: '1' }, { name: 'LOG_LEVEL', from: 'info', to: 'warn' }, { name: 'RATE_LIMIT', from: '1000', to: '2' }]
  })

  const statuses: number[] = []
  for (let request = 0; request < 3; request++) statuses.push((await app.ask('GET', '/orders', { token: app.token('alice') })).status)
  t.same(statuses, [200, 200, 429], 'the limit is in force')
  folder.write({ LOG_LEVEL: 'warn' })
  await until(() => app.app.settings.now.rateLimit === undefined)
  t.equal((await app.ask('GET', '/orders', { token: app.token('alice') })).status, 200, 'the limit is gone')
  const metrics = await app.app.metrics.render()
  t.match(metrics, /^config_reloads_total\{origin="central",outcome="applied"\} 2$/m)
  t.match(metrics, /^config_last_reload_successful 1$/m)
  t.match(metrics, /^config_info\{environment="",hash="[0-9a-f]{12}"\} 1$/m)
})

t.test('a change with a wrong value is refused whole, and the service goes on as it was until the value is corrected', async t => {
  const { app, folder, lines } = await startFollowing(t, { RATE_LIMIT: '100' })
  folder.write({ RATE_LIMIT: '200', INTAKE_QUEUE_MAX: 'many', LOG_LEVEL: 'loud' })
  await until(() => app.app.centralState()?.refused.length === 2)
  t.equal(app.app.settings.now.rateLimit, 100)
  t.match(lines.find(({ msg }) => msg?.startsWith('Settings were changed and cannot be used.')), { level: 50, faults: [/^INTAKE_QUEUE_MAX is "many"/, /^LOG_LEVEL is "loud"/] })
  t.match(await app.app.metrics.render(), /^config_last_reload_successful 0$/m)

  folder.write({ RATE_LIMIT: '200' })
  await until(() => app.app.settings.now.rateLimit === 200)
  t.same(app.app.centralState()?.refused, [])
  t.match(await app.app.metrics.render(), /^config_last_reload_successful 1$/m)
})

t.test('a changed setting that takes a restart is reported and not in force, and the others are in force', async t => {
  const { app, folder, lines } = await startFollowing(t, { RATE_LIMIT: '100' })
  folder.write({ RATE_LIMIT: '200', INTAKE_BATCH_MAX: '77' })
  await until(() => app.app.settings.now.rateLimit === 200)
  t.equal(app.app.settings.now.intake.batchMax, 128)
  const { running } = app.app.settings
  t.same(running?.takesRestart, [{ name: 'INTAKE_BATCH_MAX', from: '128', to: '77' }])
  t.match(running?.shown.find(({ name }) => name === 'INTAKE_BATCH_MAX'), { value: '128', layer: 'default' })
  t.match(lines.filter(({ msg }) => msg?.startsWith('Settings were changed that take a restart.')), { length: 1, 0: { takesRestart: [{ name: 'INTAKE_BATCH_MAX' }] } })
  t.match(await app.app.metrics.render(), /^config_restart_needed_settings 1$/m)

  folder.write({ RATE_LIMIT: '300', INTAKE_BATCH_MAX: '77' })
  await until(() => app.app.settings.now.rateLimit === 300)
  t.match(lines.filter(({ msg }) => msg?.startsWith('Settings were changed that take a restart.')), { length: 1 }, 'it is logged once')
})

t.test('a change that does not fit with a setting that takes a restart is refused', async t => {
  const { app, folder } = await startFollowing(t, { OTEL_TRACES_SAMPLER: 'parentbased_always_on' })
  folder.write({ OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' })
  await until(() => (app.app.centralState()?.refused.length ?? 0) > 0)
  t.match(app.app.centralState()?.refused, [/^OTEL_TRACES_SAMPLER_ARG is set, and the sampler parentbased_always_on takes none/])
})

t.test('a second change of settings waits for its time, is shown as pending, and is dropped if a later one is wrong', async t => {
  const { app, folder } = await startFollowing(t, { RATE_LIMIT: '1' }, { CONFIG_RELOAD_INTERVAL_MS: '60000', CONFIG_RELOAD_JITTER_MS: '0' })
  folder.write({ RATE_LIMIT: '2' })
  await until(() => app.app.settings.now.rateLimit === 2)
  folder.write({ RATE_LIMIT: '3' })
  await until(() => app.app.centralState()?.pending !== undefined)
  t.match(app.app.centralState()?.pending, { names: ['RATE_LIMIT'] })
  const { inMs = 0 } = app.app.centralState()?.pending ?? {}
  t.ok(inMs > 0 && inMs <= 60_000)
  t.equal(app.app.settings.now.rateLimit, 2)

  folder.write({ RATE_LIMIT: 'wrong' })
  await until(() => (app.app.centralState()?.refused.length ?? 0) > 0)
  t.equal(app.app.centralState()?.pending, undefined, 'a change that the source no longer holds is not put into force')
})

t.test('no setting changes once a stop has begun, and a pending change is dropped', async t => {
  const { app, folder } = await startFollowing(t, { RATE_LIMIT: '1' }, { CONFIG_RELOAD_INTERVAL_MS: '0', CONFIG_RELOAD_JITTER_MS: '60000' })
  folder.write({ RATE_LIMIT: '2' })
  await until(() => app.app.centralState()?.pending !== undefined)
  const { exitCode } = await app.app.drain.start('test')
  t.equal(exitCode, 0)
  t.equal(app.app.centralState()?.pending, undefined)
  t.equal(app.app.settings.now.rateLimit, 1)
})

t.test('a source that is emptied changes nothing, because all settings would fall back to their defaults at once', async t => {
  const { app, folder } = await startFollowing(t, { RATE_LIMIT: '1' })
  folder.write({})
  await until(() => (app.app.centralState()?.refused.length ?? 0) > 0)
  t.match(app.app.centralState()?.refused, [/holds no setting any more/])
  t.equal(app.app.settings.now.rateLimit, 1)
})

t.test('the metrics say whether the source answers and when it last did, or when the copy was made', async t => {
  const begunS = Date.now() / 1_000
  const { app, folder } = await startFollowing(t, { RATE_LIMIT: '1' })
  const value = async (name: string): Promise<number> => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(await app.app.metrics.render())?.[1])
  t.equal(await value('config_source_up'), 1)
  const heard = await value('config_source_heard_timestamp_seconds')
  t.ok(heard >= begunS)
  folder.write({ RATE_LIMIT: '2' })
  await until(() => app.app.settings.now.rateLimit === 2)
  t.ok(await value('config_source_heard_timestamp_seconds') > heard)
  rmSync(folder.path, { recursive: true })
  await until(async () => await value('config_source_up') === 0)

  const copiedAt = new Date('2026-11-01T00:00:00Z')
  const { url } = await startCalled(t, () => ({ status: 503 }))
  const source = openSource({ url: url.replace('http:', 'consul:') + '/last-orders/staging', token: undefined, cacheFile: undefined, reloadIntervalMs: 0, reloadJitterMs: 0 })
  const copied = await startApp(t, { central: { source, snapshot: { values: {}, version: '1' }, copiedAt } })
  t.match(await copied.app.metrics.render(), /^config_source_up 0$/m)
  t.match(await copied.app.metrics.render(), new RegExp(`^config_source_heard_timestamp_seconds ${copiedAt.getTime() / 1_000}$`, 'm'))
})

t.test('a change in etcd reaches its own environment and never another, also after etcd was away', { skip: etcdMissing }, async t => {
  const etcd = await startEtcd(t)
  await etcd.putAll({ '/last-orders/staging/RATE_LIMIT': '100', '/last-orders/production/RATE_LIMIT': '100' })
  const [staging, production] = await Promise.all(['staging', 'production'].map(async environment => {
    return await startService(t, { ENVIRONMENT: environment, CONFIG_URL: `etcd://${etcd.host}/last-orders/${environment}`, CONFIG_RELOAD_INTERVAL_MS: '0', DATABASE_URL: (await startApp(t)).databaseUrl })
  }))
  if (staging === undefined || production === undefined) throw new Error('The services did not start.')
  const shown = async ({ opsUrl }: { opsUrl: string }) => await (await fetch(`${opsUrl}/config`)).json() as { environment: string, settings: Record<string, { value: string, layer: string }>, central: { refused: string[], away: string | null }, hash: string }
  const limit = async (service: { opsUrl: string }) => (await shown(service)).settings.RATE_LIMIT

  await etcd.put('/last-orders/staging/RATE_LIMIT', '200')
  await until(async () => (await limit(staging))?.value === '200')
  t.same(await limit(production), { value: '100', layer: 'central', reloadable: true })
  t.not((await shown(staging)).hash, (await shown(production)).hash)

  await etcd.put('/last-orders/staging/LOG_LEVEL', 'loud')
  await until(async () => (await shown(staging)).central.refused.length > 0)
  t.equal((await fetch(`${staging.url}/readyz`)).status, 200)
  t.same((await shown(production)).central.refused, [])

  await etcd.kill()
  await until(async () => (await shown(staging)).central.away !== null)
  t.equal((await limit(staging))?.value, '200')
  await etcd.start()
  await etcd.put('/last-orders/staging/LOG_LEVEL', 'info')
  await etcd.put('/last-orders/staging/RATE_LIMIT', '300')
  await until(async () => (await limit(staging))?.value === '300')
  t.equal((await limit(production))?.value, '100')
  staging.child.kill('SIGTERM')
  t.same(await staging.exited, [0, null])
})

t.test('a signing secret is rotated in its files without a refused token, until the old secret is gone', async t => {
  const [old, next] = [secret, 'another secret for tests, of more than thirty-two bytes']
  const folder = new MountedFolder(join(t.testdir(), 'secrets'), { current: old })
  const app = await startApp(t, { central: 'none', settings: { AUTH_JWT_SECRET: undefined, AUTH_JWT_SECRET_FILE: join(folder.path, 'current'), AUTH_JWT_SECRET_PREVIOUS_FILE: join(folder.path, 'previous-if-any') } }).catch(() => undefined)
  t.equal(app, undefined, 'a file that is not there is a fault at a start')

  folder.write({ current: old, previous: old })
  const served = await startApp(t, { central: 'none', settings: { AUTH_JWT_SECRET: undefined, AUTH_JWT_SECRET_FILE: join(folder.path, 'current'), AUTH_JWT_SECRET_PREVIOUS_FILE: join(folder.path, 'previous') } })
  const askWith = async (key: string) => (await served.ask('GET', '/orders', { token: signToken({ secret: key, sub: 'alice' }) })).status
  const refused: number[] = []
  const over = new AbortController()
  const asking = (async () => {
    for (let isNextTaken = false; !over.signal.aborted;) {
      const ofOld = await askWith(old)
      if (ofOld !== 200) refused.push(ofOld)
      const ofNext = await askWith(next)
      if (ofNext !== 200 && isNextTaken) refused.push(ofNext)
      isNextTaken ||= ofNext === 200
    }
  })()
  t.equal(await askWith(next), 401)
  folder.write({ current: next, previous: old })
  await until(() => served.app.settings.now.auth.secret === next)
  for (let request = 0; request < 20; request++) await Promise.all([askWith(old), askWith(next)])
  over.abort()
  await asking
  t.same(refused, [])
  t.same([await askWith(old), await askWith(next)], [200, 200])

  folder.write({ current: next, previous: next })
  await until(() => served.app.settings.now.auth.previousSecret === next)
  t.same([await askWith(old), await askWith(next)], [401, 200], 'also a token that was accepted before')
})

t.test('the operators\' token is rotated in its file', async t => {
  const folder = new MountedFolder(join(t.testdir(), 'secrets'), { token: 'one' })
  const { databaseUrl } = await startApp(t)
  const { opsUrl } = await startService(t, { DATABASE_URL: databaseUrl, OPS_TOKEN_FILE: join(folder.path, 'token') })
  // Asks as from another machine.
  const askWith = async (token: string) => (await fetch(`${opsUrl}/config`, { headers: { authorization: `Bearer ${token}`, 'x-forwarded-for': '192.0.2.7' } })).status
  t.same([await askWith('one'), await askWith('two')], [200, 401])
  folder.write({ token: 'two' })
  await until(async () => await askWith('two') === 200)
  t.equal(await askWith('one'), 401)
})

t.test('a file of a secret that is emptied is refused, and the secret that it had stays in force', async t => {
  const file = join(t.testdir({ secret }), 'secret')
  const { app, ask, token } = await startApp(t, { central: 'none', settings: { AUTH_JWT_SECRET: undefined, AUTH_JWT_SECRET_FILE: file } })
  writeFileSync(file, '')
  while (!/^config_reloads_total\{origin="files",outcome="refused"\} [1-9]/m.test(await app.metrics.render())) await pause()
  t.equal((await ask('GET', '/orders', { token: token('alice') })).status, 200)
})

for (const [order, form] of [['the file first', 'DATABASE_PASSWORD_FILE'], ['the database first', 'DATABASE_PASSWORD_FILE'], ['the file first', 'DATABASE_URL_FILE']] as const) {
  t.test(`no order fails while the database password is rotated, ${order} (${form}), and no connection with the old one is left`, async t => {
    const cluster = await Cluster.create({ log: join(t.testdir(), 'postgres.log') })
    t.teardown(() => cluster.close())
    await migrate({ url: cluster.url })
    await cluster.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)", [], cluster.database)
    const password = new URL(cluster.url).password
    const content = (password: string): string => form === 'DATABASE_PASSWORD_FILE' ? password : withPassword(cluster.url, password)
    const folder = new MountedFolder(join(t.testdir(), 'secrets'), { secret: content(password) })
    const settings = { [form]: join(folder.path, 'secret'), ...form === 'DATABASE_URL_FILE' && { DATABASE_URL: undefined } }
    const served = await startApp(t, { central: 'none', databaseUrl: withPassword(cluster.url, ''), connectTo: cluster.url, settings })
    const { app } = served

    const failed: unknown[] = []
    let placed = 0
    const over = new AbortController()
    const loading = Promise.all(Array.from({ length: 8 }, async () => {
      while (!over.signal.aborted) {
        const { status, body } = await place(served)
        if (status === 201) placed++
        else failed.push(body)
      }
    }))
    await until(() => placed > 50)
    const before = app.database.sessions
    const rotated = `${password}-rotated`
    const change = { file: () => folder.write({ secret: content(rotated) }), database: async () => { await cluster.primary.query(`ALTER ROLE postgres PASSWORD '${rotated}'`) } }
    if (order === 'the file first') {
      change.file()
      await until(() => app.database.sessions.every(session => !before.includes(session)))
      await change.database()
    } else {
      await change.database()
      change.file()
      await until(() => app.database.sessions.every(session => !before.includes(session)))
    }
    // Each connection is new, and was opened with the new password.
    const fromThere = placed
    await until(() => placed > fromThere + 50)
    app.database.renew()
    const more = placed
    await until(() => placed > more + 50)
    over.abort()
    await loading
    t.same(failed, [])
    t.match((await app.drain.start('test')).exitCode, 0)
  })
}

interface Line { level: number, msg?: string, source?: string, version?: string, changes?: unknown[], faults?: string[], takesRestart?: unknown[] }

/** The service with central settings in a mounted folder. */
async function startFollowing (
  t: Test,
  values: Record<string, string>,
  settings: Record<string, string> = quick,
  overrides: AppOverrides = {}
): Promise<{ app: RunningApp, folder: MountedFolder, lines: Line[], central: Central }> {
  const folder = new MountedFolder(join(t.testdir(), 'settings'), values)
  const url = pathToFileURL(folder.path).href
  const { central: config } = loadConfig({ CONFIG_URL: url })
  if (config === undefined) throw new Error('There is no central source of settings.')
  const source = openSource(config)
  const central = { source, snapshot: await source.read(new AbortController().signal), copiedAt: undefined }
  const lines: Line[] = []
  const log = new PassThrough()
  log.on('data', chunk => { for (const line of String(chunk).trim().split('\n')) lines.push(JSON.parse(line) as Line) })
  const app = await startApp(t, { central, settings: { CONFIG_URL: url, ...settings }, log, ...overrides })
  return { app, folder, lines, central }
}

async function place ({ ask, token }: RunningApp) {
  return await ask('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
}

async function until (isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!await isSo()) await pause()
}

async function pause (): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 10))
}
