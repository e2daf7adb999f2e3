import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import { hostname } from 'node:os'
import t, { type Test } from 'tap'
import { startApp, type AppOverrides, type RunningApp } from '../app.ts'
import { consulToken, startConsul, type Consul } from '../consul.ts'
import { terminateServices } from '../faults.ts'
import { allowConnections, createTestDatabase } from '../postgres.ts'
import type { AddressInfo } from 'node:net'

const { url: databaseUrl } = await createTestDatabase(t)

t.test('an instance that listens is registered with Consul, and is passing', async t => {
  const consul = await startConsul(t)
  const { app } = await startRegistered(t, consul)
  const { port } = app.server.address() as AddressInfo
  const id = `last-orders-${hostname()}-${port}`
  await consul.called(/^check\/pass/)
  t.same(consul.calls, ['service/register', `check/pass/service:${id}`])
  t.same([...consul.services.values()], [
    { ID: id, Name: 'last-orders', Address: '', Port: port, check: { status: 'passing', ttl: '1000ms', deregisterAfter: '1m' } }
  ])
})

t.test('the name, id and address of a registration can be set', async t => {
  const consul = await startConsul(t)
  await startRegistered(t, consul, { settings: { REGISTRY_CONSUL_URL: `${consul.url}/`, REGISTRY_SERVICE_NAME: 'bar', REGISTRY_ID: 'bar one', REGISTRY_ADDRESS: '10.0.0.1' } })
  await consul.called(/^check\/pass\/service:bar one$/)
  t.match(consul.services.get('bar one'), { Name: 'bar', Address: '10.0.0.1', check: { status: 'passing' } })
})

t.test('an instance that Consul has forgotten registers again', async t => {
  const consul = await startConsul(t)
  await startRegistered(t, consul, { settings: { REGISTRY_ID: 'bar' } })
  await consul.called(/^check\/pass/)
  consul.services.clear()
  consul.calls.length = 0
  await consul.called(/^service\/register/)
  await consul.called(/^check\/pass\/service:bar$/)
  t.same(consul.calls, ['check/pass/service:bar 404', 'service/register', 'check/pass/service:bar'])
})

t.test('an instance that is not ready is critical in Consul until it is ready again', async t => {
  const consul = await startConsul(t)
  const own = await createTestDatabase(t)
  const { sql } = await startRegistered(t, consul, { databaseUrl: own.url, settings: { REGISTRY_ID: 'bar' } })
  await consul.called(/^check\/pass/)
  await allowConnections(own.url, false)
  await terminateServices(sql)
  await consul.called(/^check\/fail\/service:bar$/)
  t.equal(consul.services.get('bar')?.check.status, 'critical')
  await allowConnections(own.url, true)
  consul.calls.length = 0
  await consul.called(/^check\/pass/)
  t.equal(consul.services.get('bar')?.check.status, 'passing')
})

t.test('a stopping instance first deregisters, then is not ready, and still serves', async t => {
  const consul = await startConsul(t)
  const { app, ask, token } = await startApp(t, { settings: { ...settingsFor(consul), REGISTRY_ID: 'bar' } })
  await consul.called(/^check\/pass/)
  const seen: string[] = []
  consul.before = async call => { seen.push(call, `readyz ${(await ask('GET', '/readyz')).status}`) }
  let release = (): void => {}
  app.drain.on('draining', () => new Promise<void>(resolve => { release = resolve }))

  const stopped = app.drain.start('test')
  await consul.called(/^service\/deregister\/bar$/)
  t.equal(consul.services.size, 0)
  while ((await ask('GET', '/readyz')).status === 200);
  const placed = await ask('POST', '/orders', {
    token: token('alice'),
    body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] },
    headers: { 'idempotency-key': randomUUID() }
  })
  t.equal(placed.status, 201, 'it accepts and serves')
  t.equal(app.drain.state, 'draining')
  release()
  t.equal((await stopped).exitCode, 0)
  t.same(seen, ['service/deregister/bar', 'readyz 200'], 'it was ready while it was registered, and sent nothing afterwards')
})

t.test('a plain close of the app deregisters the instance too', async t => {
  const consul = await startConsul(t)
  const { app } = await startRegistered(t, consul)
  await consul.called(/^check\/pass/)
  await app.close()
  t.equal(consul.services.size, 0)
})

t.test('a stop waits for a registration that is under way, so that nothing stays registered', async t => {
  const consul = await startConsul(t)
  const held = hold(consul)
  const { app } = await startRegistered(t, consul, { settings: { REGISTRY_ID: 'bar' } })
  const release = await held
  const stopped = app.drain.start('test')
  // The calls that were sent before this one have come before it.
  await fetch(consul.url)
  release()
  t.equal((await stopped).exitCode, 0)
  t.same(consul.calls, ['/ 403', 'service/register', 'service/deregister/bar'])
})

t.test('a service starts and serves without its registry, and registers when that is there', async t => {
  const gone = await startConsul(t)
  await gone.stop()
  const log = logOf()
  const { ask } = await startRegistered(t, gone, { log })
  await log.line(/\(ECONNREFUSED\).*did not accept/)
  t.equal((await ask('GET', '/readyz')).status, 200)
  const consul = await startConsul(t, { port: Number(new URL(gone.url).port) })
  await consul.called(/^check\/pass/)
  t.equal(consul.services.size, 1)
})

t.test('a service whose registry refuses is ready all the same, and its log does not hold the token', async t => {
  const consul = await startConsul(t)
  const log = logOf()
  const { ask } = await startRegistered(t, consul, { log, settings: { REGISTRY_TOKEN: 'hunter2' } })
  await log.line(/The registry answered PUT http\S+\/v1\/agent\/service\/register with 403/)
  t.equal((await ask('GET', '/readyz')).status, 200)
  t.notMatch(log.lines.join(''), 'hunter2')
})

t.test('a registry that is gone does not hold up a stop, and the stop reports it', async t => {
  const consul = await startConsul(t)
  const { app } = await startRegistered(t, consul)
  await consul.called(/^check\/pass/)
  await consul.stop()
  const { exitCode, hooks } = await app.drain.start('test')
  t.equal(exitCode, 21)
  t.match(hooks.find(({ name }) => name === 'deregister'), { outcome: 'failed', error: /did not answer PUT \S+\/service\/deregister\/\S+ \(ECONNREFUSED\)/ })
})

t.test('a registry that hangs does not hold up a stop: the instance becomes unready, and the stop reports it', async t => {
  const consul = await startConsul(t)
  const { app, ask } = await startRegistered(t, consul, { settings: { DRAIN_MIN_MS: '2000', DRAIN_MAX_MS: '2000' } })
  await consul.called(/^check\/pass/)
  const held = hold(consul)
  const stopped = app.drain.start('test')
  const release = await held
  t.equal((await ask('GET', '/readyz')).status, 200, 'as long as it may still be registered')
  while ((await ask('GET', '/readyz')).status === 200);
  t.equal(app.drain.state, 'draining')
  const { exitCode, hooks } = await stopped
  t.equal(exitCode, 21)
  t.match(hooks.find(({ name }) => name === 'deregister'), { outcome: 'failed', error: /timeout/ })
  release()
})

t.test('two URLs of the operator get the registration and the deregistration', async t => {
  const hook = await startHook(t)
  const { app } = await startApp(t, { databaseUrl, settings: { REGISTRY_REGISTER_URL: `${hook.url}/in?key=1`, REGISTRY_DEREGISTER_URL: `${hook.url}/out`, REGISTRY_TOKEN: 'hook', REGISTRY_ID: 'bar' } })
  await hook.called(1)
  const { port } = app.server.address() as AddressInfo
  const body = { id: 'bar', name: 'last-orders', address: hostname(), port }
  const call = { method: 'POST', authorization: 'Bearer hook', type: 'application/json', body }
  t.equal((await app.drain.start('test')).exitCode, 0)
  t.same(hook.calls, [{ ...call, path: '/in?key=1' }, { ...call, path: '/out' }])
})

t.test('a redirect of a registration URL is not followed, because the token is not for others', async t => {
  const [hook, other] = [await startHook(t), await startHook(t)]
  hook.redirectTo = other.url
  const log = logOf()
  await startApp(t, { databaseUrl, log, settings: { REGISTRY_REGISTER_URL: `${hook.url}/in?key=hunter2`, REGISTRY_DEREGISTER_URL: `${hook.url}/out`, REGISTRY_TOKEN: 'hook' } })
  await log.line(/did not accept/)
  t.same(other.calls, [])
  t.notMatch(log.lines.join(''), 'hunter2', 'the log does not hold the secret in the query')
})

function settingsFor ({ url }: Consul): Record<string, string> {
  return { REGISTRY_CONSUL_URL: url, REGISTRY_TOKEN: consulToken, REGISTRY_TTL_MS: '1000' }
}

async function startRegistered (t: Test, consul: Consul, { settings, ...overrides }: AppOverrides = {}): Promise<RunningApp> {
  return await startApp(t, { databaseUrl, ...overrides, settings: { ...settingsFor(consul), ...settings } })
}

/** Holds the next call. Resolves when that has come, with a function that releases it. Later calls pass. */
async function hold (consul: Consul): Promise<() => void> {
  const { promise: arrived, resolve } = Promise.withResolvers<() => void>()
  consul.before = async () => {
    consul.before = () => {}
    const { promise: released, resolve: release } = Promise.withResolvers<void>()
    resolve(release)
    await released
  }
  return await arrived
}

function logOf () {
  const written = new EventEmitter()
  const lines: string[] = []
  return {
    lines,
    write (line: string): void {
      lines.push(line)
      written.emit('line')
    },
    async line (pattern: RegExp): Promise<void> {
      while (!lines.some(line => pattern.test(line))) await once(written, 'line')
    }
  }
}

/** Records calls, and accepts or redirects them. */
async function startHook (t: Test) {
  const arrivals = new EventEmitter()
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += String(chunk)
    const { method, url: path, headers: { authorization, 'content-type': type } } = request
    hook.calls.push({ method, path, authorization, type, body: JSON.parse(body) })
    arrivals.emit('call')
    if (hook.redirectTo === undefined) response.writeHead(204).end()
    else response.writeHead(307, { location: hook.redirectTo }).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const hook = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: [] as object[],
    redirectTo: undefined as string | undefined,
    async called (times: number): Promise<void> {
      while (hook.calls.length < times) await once(arrivals, 'call')
    }
  }
  return hook
}
