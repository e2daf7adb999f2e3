import { createServer } from 'node:http'
import { hostname } from 'node:os'
import { setImmediate as turn } from 'node:timers/promises'
import { pino } from 'pino'
import t from 'tap'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'
import { waitOf } from '../../plugins/traffic.ts'
import { startApp, type AppOverrides } from '../app.ts'
import type { FastifyInstance } from 'fastify'
import type { DrainReport } from 'fastify-drain'

// All tests but one share this instance, because a start costs more than they do. The last of them stops it.
const { app, ops, sql, ask, token } = await start(t, { settings: { ORCA_LOAD_METRICS: 'true', INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '1' } })

t.test('/fleet says of each instance whether it lives, how it ended, and what it abandoned', async t => {
  const report = {
    elapsed: 900,
    phases: { draining: 0, closing: 400, aborted: null, closed: 900 },
    requests: { completed: { count: 7, ids: [] }, refused: { count: 0, ids: [] }, abandoned: { count: 25, ids: Array.from({ length: 25 }, (_, n) => `id-${n}`) }, stalled: { count: 1, ids: ['cut'] } },
    tracked: { abandoned: ['outbox relay'] }
  }
  await sql.query(`INSERT INTO stops (id, instance, pid, version, state, started_at, seen_at, stopping_at, finished_at, exit_code, in_flight, ops_url, deadline_ms, report, counted_at, outcome) VALUES
    (gen_random_uuid(), 'living', 1, '2', 'serving', now() - interval '3 hours', now() - interval '2 s', NULL, NULL, NULL, 3, 'http://living:3001', 25000, NULL, NULL, NULL),
    (gen_random_uuid(), 'silent', 1, '1', 'serving', now() - interval '3 hours', now() - interval '2 min', NULL, NULL, NULL, 4, NULL, 25000, NULL, NULL, NULL),
    (gen_random_uuid(), 'stopping', 1, '1', 'draining', now() - interval '3 hours', now() - interval '40 s', now() - interval '41 s', NULL, NULL, 4, NULL, 600000, NULL, NULL, NULL),
    (gen_random_uuid(), 'lossy', 1, '1', 'closed', now() - interval '3 hours', now() - interval '5 min', now() - interval '5 min', now() - interval '5 min', 20, 0, NULL, 25000, $1, now() - interval '4 min', 'abandoned'),
    (gen_random_uuid(), 'before', 1, NULL, NULL, now() - interval '10 min', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (gen_random_uuid(), 'long gone', 1, '1', 'closed', now() - interval '3 hours', now() - interval '2 hours', now() - interval '2 hours', now() - interval '2 hours', 0, 0, NULL, 25000, NULL, now() - interval '2 hours', 'clean')`, [report])

  const [one, other] = await Promise.all([ops.inject('/fleet'), ops.inject('/fleet')])
  t.equal(one.body, other.body, 'concurrent requests get one answer')
  const lives = new Map<string, Record<string, unknown>>(one.json().lives.map((life: { instance: string }) => [life.instance, life]))
  t.match(lives.get(hostname()), { life: 'this', pid: process.pid, finishedAt: null })
  t.match(lives.get('living'), { life: 'living', version: '2', state: 'serving', inFlight: 3, opsUrl: 'http://living:3001', requests: null, abandonedWork: [] })
  t.ok(Number(lives.get('living')?.heartbeatAgeMs) >= 2_000)
  t.match(lives.get('silent'), { life: 'gone', inFlight: 4 })
  t.match(lives.get('stopping'), { life: 'unknown' }, 'an instance that is silent during its stop may still be stopping')
  t.match(lives.get('before'), { life: 'unknown', seenAt: null, heartbeatAgeMs: null }, 'the previous version reports nothing')
  t.match(lives.get('lossy'), {
    life: 'finished',
    exitCode: 20,
    outcome: 'abandoned',
    elapsed: 900,
    phases: report.phases,
    abandonedWork: ['outbox relay'],
    requests: { completed: 7, refused: 0, abandoned: { count: 25, ids: { length: 20 } }, cut: { count: 1, ids: ['cut'] } }
  })
  t.notOk(lives.has('long gone'))
})

t.test('/health reports the outcomes of the last minute, dead events, and an instance that is gone', async t => {
  const place = (key: string, as?: string) => ask('POST', '/orders', { ...as !== undefined && { token: as }, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': key } })
  const alice = token('alice')
  const { body: { id } } = await place('one', alice) as { body: { id: string } }
  await place('one', alice)
  await place('two')
  t.equal((await ask('POST', `/orders/${id}/pay`, { token: alice })).status, 200)
  await sql.query('UPDATE outbox SET dead_at = now()')
  t.match((await ops.inject('/health')).json(), {
    status: 'degraded',
    dependencies: { fleet: { status: 'degraded', informative: true, living: 2, reason: /silent \(pid 1\)/ } },
    business: { status: 'degraded', reasons: [/2 events are dead/], orders: { placed: 1, replayed: 1, unauthenticated: 1, paid: 1 }, deadEvents: 2, errorShare: 0 }
  })
})

t.test('with ORCA_LOAD_METRICS, each reply tells Envoy how loaded the instance is, as the agent check does', async t => {
  const loadOfReply = async () => String((await ask('GET', '/nowhere')).headers['endpoint-load-metrics'])
  t.match(await loadOfReply(), /^TEXT application_utilization=0\.\d\d,rps_fractional=\d+\.\d,eps=\d+\.\d$/)

  await sql.query('BEGIN; SELECT FROM products FOR UPDATE')
  const placed = Array.from({ length: 5 }, (_, n) => ask('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': `queued-${n}` } }))
  while (app.orders.intake.queued < 4) await turn()
  while (!/application_utilization=0\.[89]/.test(await loadOfReply()));
  await sql.query('ROLLBACK')
  t.same(new Set((await Promise.all(placed)).map(({ status }) => status)), new Set([201]))
})

t.test('waitOf says what a stop waits for: min, quiet, max, then hooks, requests, work and resources', async t => {
  const lameDuck = { minMs: 5_000, quietMs: 1_000, maxMs: 15_000 }
  const report = (state: string, elapsed: number, more: object = {}): DrainReport => ({
    state, elapsed, remaining: 25_000 - elapsed, phases: { draining: 0 }, requests: { inFlight: 0 }, tracked: { pending: [] }, hooks: [], ...more
  }) as unknown as DrainReport
  t.equal(waitOf(report('serving', 0), lameDuck, undefined), null)
  t.same(waitOf(report('draining', 1_000), lameDuck, undefined), { for: 'min', left: 4_000, atMost: 14_000 })
  t.same(waitOf(report('draining', 6_000), lameDuck, 300), { for: 'quiet', left: 700, atMost: 9_000 })
  t.same(waitOf(report('draining', 14_500), lameDuck, 100), { for: 'max', left: 500, atMost: 500 })
  t.same(waitOf(report('draining', 16_000), lameDuck, 100), { for: 'hooks', left: null, atMost: 9_000 })
  t.match(waitOf(report('closing', 16_000, { requests: { inFlight: 1 } }), lameDuck, 100), { for: 'requests', atMost: 9_000 })
  t.match(waitOf(report('closing', 16_000, { tracked: { pending: [{ label: 'outbox relay' }] } }), lameDuck, 100), { for: 'work' })
  t.match(waitOf(report('closing', 16_000, { hooks: [{ name: 'slow', outcome: 'running' }] }), lameDuck, 100), { for: 'hooks' })
  t.match(waitOf(report('closing', 16_000), lameDuck, 100), { for: 'resources' })
  t.equal(waitOf(report('closed', 16_000), lameDuck, 100), null)
})

t.test('GET /drain reports what still arrives during a stop and from where, without the probes', async t => {
  await ask('GET', '/products', { headers: { 'user-agent': 'before the stop' } })
  t.match((await ops.inject('/drain')).json(), { stop: { waiting: null, lameDuck: { minMs: 0, quietMs: 0, maxMs: 0 }, arrivals: { requests: 0, lastAge: null, senders: [] } } })

  let release = (): void => {}
  app.drain.on('draining', () => new Promise<void>(resolve => { release = resolve }), { name: 'hold' })
  const stopped = app.drain.start('test')
  while (app.drain.state !== 'draining') await turn()
  await ask('GET', '/readyz', { headers: { 'user-agent': 'kube-probe' } })
  for (let sender = 0; sender < 10; sender++) await ask('GET', '/nowhere?token=secret', { headers: { 'user-agent': `balancer ${sender}` } })
  await ask('GET', '/products', { headers: { 'user-agent': 'balancer 9' } })
  const { stop, lastMinute } = (await ops.inject('/drain')).json()
  t.match(stop, { waiting: { for: 'hooks', left: null, atMost: Number }, arrivals: { requests: 11, lastAge: Number } })
  t.same(stop.arrivals.senders.map(({ userAgent }: { userAgent: string }) => userAgent), Array.from({ length: 8 }, (_, n) => `balancer ${9 - n}`), 'the last eight senders')
  t.match(stop.arrivals.senders[0], { peer: '127.0.0.1', requests: 2, method: 'GET', route: '/products' })
  t.match(stop.arrivals.senders[1], { route: '/nowhere' }, 'the query is left out, because it may hold secrets')
  t.match((await ops.inject({ url: '/drain', remoteAddress: '192.0.2.1' })).json(), { stop: { arrivals: { requests: 11, senders: { length: 0 } } } }, 'only operators see addresses')
  t.ok(lastMinute.requestsPerSecond > 0)
  t.match((await ops.inject('/health')).json(), { status: 'degraded', process: { reasons: [/still accepts/] } })

  release()
  t.equal((await stopped).exitCode, 0)
})

t.test('/health is degraded by an informative dependency, and down when the database cannot be written', async t => {
  const issuer = createServer((_request, response) => { response.writeHead(500).end() }).listen(0, '127.0.0.1')
  t.teardown(() => issuer.close())
  await new Promise(resolve => issuer.once('listening', resolve))
  const address = issuer.address()
  const { app, ops, sql, ask } = await start(t, { auth: { jwksUrl: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/keys` } })
  t.notOk((await ask('GET', '/nowhere')).headers['endpoint-load-metrics'], 'Envoy gets the load only if the setting is on')
  const degraded = await ops.inject('/health')
  t.equal(degraded.statusCode, 200)
  t.match(degraded.json(), {
    status: 'degraded',
    process: { state: 'serving', inFlight: 0, pid: process.pid },
    dependencies: { status: 'degraded', database: { status: 'ok', informative: false }, issuer: { status: 'degraded', informative: true, reason: /AUTH_JWKS_URL answered 500/ }, publisher: { status: 'ok' } },
    business: { status: 'ok', orders: {}, deadEvents: 0, oldestEventAgeS: 0, errorShare: 0 }
  })

  await sql.query('ALTER TABLE orders RENAME TO elsewhere')
  // An answer of the database is cached for a moment.
  let down = await ops.inject('/health')
  while (down.statusCode === 200) {
    await turn()
    down = await ops.inject('/health')
  }
  t.equal(down.statusCode, 503)
  t.match(down.json(), { status: 'down', dependencies: { status: 'down', database: { status: 'down', reason: /^The database cannot be written: / } } })
  await sql.query('ALTER TABLE elsewhere RENAME TO orders')

  await app.drain.start('test')
  const closed = await ops.inject('/health')
  t.equal(closed.statusCode, 503)
  t.match(closed.json(), { status: 'down', process: { status: 'down', state: 'closed' } })
  t.match((await ops.inject('/fleet')).json(), { status: 503, type: /not-started$/ }, 'nothing opens a database that the stop has closed')
})

async function start (t: { teardown (end: () => Promise<unknown>): unknown }, overrides: AppOverrides = {}) {
  const service = await startApp(t, overrides)
  const ops: FastifyInstance = await buildOps({ app: service.app, config: loadConfig({}), logger: pino({ level: 'silent' }) })
  t.teardown(() => ops.close())
  return { ...service, ops }
}
