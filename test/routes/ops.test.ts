import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { buildApp } from '../../app.ts'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'
import { withFigures } from '../exposition.ts'
import { createTestDatabase } from '../postgres.ts'
import { startProgram } from '../program.ts'
import type { InjectOptions } from 'fastify'

const elsewhere = { remoteAddress: '192.0.2.7' }

t.test('/metrics answers in the format of Prometheus, also after the service has closed', async t => {
  const { app, ops } = await start(t)
  const serving = await ops.inject('/metrics')
  t.equal(serving.statusCode, 200)
  t.equal(serving.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.match(serving.body, 'drain_state{state="serving"} 1')

  await app.drain.start('test')
  t.match((await ops.inject('/metrics')).body, 'drain_state{state="closed"} 1')
})

t.test('/metrics counts placed orders, their batches, and unpublished events', async t => {
  const { app, ops } = await start(t)
  await app.products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 10n })
  const placed = await app.orders.intake.place({ customer: 'alice', idempotencyKey: 'key', currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }], reference: null })
  t.equal(placed.outcome, 'created')
  await app.prisma.$executeRaw`INSERT INTO outbox (order_id, version, type, dead_at) SELECT id, 2, 'paid', now() FROM orders`
  await withFigures(app)
  const { body } = await ops.inject('/metrics')
  t.match(body, /^orders_total\{outcome="placed"\} 1$/m)
  t.match(body, /^orders_value_total\{currency="EUR"\} 520$/m)
  t.match(body, /^intake_batch_size_count 1$/m)
  t.match(body, /^outbox_unpublished_events\{state="dead"\} 1$/m)
  t.match(body, /^outbox_unpublished_events\{state="pending"\} [01]$/m)
})

t.test('the probes on the ops port answer in the format of kube-apiserver', async t => {
  const { ops } = await start(t)
  const readyz = await ops.inject('/readyz')
  t.same([readyz.statusCode, readyz.body, readyz.headers['content-type']], [200, 'ok', 'text/plain; charset=utf-8'])
  t.equal((await ops.inject('/readyz?verbose')).body, '[+]started ok\n[+]drain ok\n[+]database ok\n[+]publisher ok\nreadyz check passed\n')
  t.equal((await ops.inject('/readyz/database')).body, 'ok')
  t.equal((await ops.inject('/livez')).body, 'ok')
  t.equal((await ops.inject('/livez?verbose')).body, '[+]ping ok\nlivez check passed\n')
  t.equal((await ops.inject('/startupz?verbose')).body, '[+]started ok\nstartupz check passed\n')

  t.test('a check of /readyz can be excluded, and an unknown one is named', async t => {
    const { body } = await ops.inject('/readyz?verbose&exclude=database&exclude=cache')
    t.equal(body, '[+]started ok\n[+]drain ok\n[+]database excluded: ok\n[+]publisher ok\nwarn: some health checks cannot be excluded: no matches for "cache"\nreadyz check passed\n')
  })

  t.test('a check that does not exist is answered with a 404 problem', async t => {
    const answer = await ops.inject('/readyz/cache')
    t.equal(answer.statusCode, 404)
    t.equal(answer.headers['content-type'], 'application/problem+json')
    t.match(answer.json(), { type: /not-found$/, detail: /started, drain, database, publisher/ })
  })
})

t.test('a service that stops is alive but not ready, and says which check fails', async t => {
  const { app, ops } = await start(t)
  t.equal((await ops.inject('/readyz')).statusCode, 200)
  await app.drain.start('test')
  const readyz = await ops.inject('/readyz')
  t.equal(readyz.statusCode, 503)
  t.equal(readyz.body, '[+]started ok\n[-]drain failed\n[+]database ok\n[+]publisher ok\nreadyz check failed\n')
  t.equal((await ops.inject('/readyz?exclude=drain')).statusCode, 200)
  t.same(await ops.inject('/readyz/drain').then(({ statusCode, body }) => [statusCode, body]), [503, '[-]drain failed\n'])
  t.equal((await ops.inject('/livez')).statusCode, 200)
})

t.test('POST /drain answers at once with the stop that it started', async t => {
  const { app, ops, slow } = await start(t)
  const request = fetch(`${app.listeningOrigin}/slow`)
  await slow.begun

  const answer = await ops.inject({ method: 'POST', url: '/drain' })
  t.equal(answer.statusCode, 202)
  t.match(answer.json(), { report: { state: 'draining', reason: 'ops', requests: { inFlight: 1, atStart: 1 } } })

  const again = await ops.inject({ method: 'POST', url: '/drain' })
  t.equal(again.statusCode, 202)
  t.match(again.json(), { report: { reason: 'ops', requests: { abandoned: { count: 0 } } } }, 'a second request joins the same stop')

  slow.end()
  t.equal((await request).status, 200)
})

t.test('a request from this machine may stop the process, in each form that its address has', async t => {
  const { ops } = await start(t)
  for (const remoteAddress of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1']) {
    t.equal((await ops.inject({ method: 'POST', url: '/drain', remoteAddress })).statusCode, 202, remoteAddress)
  }
})

t.test('no other machine may stop the process if no token is set', async t => {
  const { app, ops } = await start(t)
  const attempts: InjectOptions[] = [
    elsewhere,
    { remoteAddress: '::ffff:192.0.2.7' },
    { ...elsewhere, headers: { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1', 'x-real-ip': '127.0.0.1' } },
    { ...elsewhere, headers: { authorization: 'Bearer undefined' } }
  ]
  for (const attempt of attempts) {
    const answer = await ops.inject({ method: 'POST', url: '/drain', ...attempt })
    t.equal(answer.statusCode, 403)
    t.match(answer.json(), { type: /forbidden$/, detail: /OPS_TOKEN/ })
  }
  t.match((await ops.inject({ url: '/drain', ...elsewhere })).json(), { mayDrain: 'denied' })
  t.equal(app.drain.state, 'serving')
})

t.test('another machine cannot stop the process without the right token', async t => {
  const { app, ops } = await start(t, { OPS_TOKEN: 'thelandlord' })
  t.match((await ops.inject({ url: '/drain', ...elsewhere })).json(), { mayDrain: 'token-needed' })
  for (const authorization of [undefined, 'Bearer', 'Bearer thelandlady', 'Bearer thelandlor', 'Basic thelandlord']) {
    const answer = await ops.inject({ method: 'POST', url: '/drain', ...elsewhere, headers: authorization === undefined ? {} : { authorization } })
    t.equal(answer.statusCode, 401, authorization ?? 'no token')
    t.equal(answer.headers['www-authenticate'], 'Bearer')
    t.match(answer.json(), { type: /unauthenticated$/ })
  }
  t.equal(app.drain.state, 'serving')
})

t.test('an operator with the token may stop the process from anywhere', async t => {
  const { app, ops } = await start(t, { OPS_TOKEN: 'thelandlord' })
  const answer = await ops.inject({ method: 'POST', url: '/drain', ...elsewhere, headers: { authorization: 'Bearer thelandlord' } })
  t.equal(answer.statusCode, 202)
  t.not(app.drain.state, 'serving')
})

t.test('a request that a proxy or a foreign page sends through loopback may not stop the process', async t => {
  const { app, ops } = await start(t)
  const others = {
    'a page of another site, in the browser of the operator': { host: '127.0.0.1:3001', origin: 'https://example.com' },
    'a page without an origin': { host: '127.0.0.1:3001', origin: 'null' },
    'a foreign name that was made to point here': { host: 'example.com:3001', origin: 'http://example.com:3001' },
    'a proxy on this machine': { host: 'localhost:3001', 'x-forwarded-for': '192.0.2.7' },
    'a proxy with the standard header': { host: 'localhost:3001', forwarded: 'for=192.0.2.7' }
  }
  for (const [who, headers] of Object.entries(others)) {
    t.equal((await ops.inject({ method: 'POST', url: '/drain', headers })).statusCode, 403, who)
  }
  t.equal(app.drain.state, 'serving')

  const ownPage = { host: '[::1]:3001', origin: 'http://[::1]:3001' }
  t.equal((await ops.inject({ method: 'POST', url: '/drain', headers: ownPage })).statusCode, 202, 'the page of this port')
})

t.test('a request from loopback needs the token if the ops port is open to other machines', async t => {
  const { app, ops } = await start(t, { OPS_HOST: '0.0.0.0', OPS_TOKEN: 'thelandlord' })
  t.match((await ops.inject('/drain')).json(), { mayDrain: 'token-needed' })
  for (const url of ['/drain', '/events/dead/revive']) {
    const answer = await ops.inject({ method: 'POST', url, remoteAddress: '127.0.0.6', headers: { host: 'localhost' } })
    t.equal(answer.statusCode, 401, url)
    t.match(answer.json(), { type: /unauthenticated$/, detail: /^It takes the operators' token/ })
  }
  t.equal((await ops.inject('/events/dead')).statusCode, 401)
  t.equal(app.drain.state, 'serving')
  t.equal((await ops.inject({ method: 'POST', url: '/drain', headers: { authorization: 'Bearer thelandlord' } })).statusCode, 202)
})

t.test('the ops port refuses a host name that is neither of this machine nor allowed, as in DNS rebinding', async t => {
  const { ops } = await start(t, { OPS_ALLOWED_HOSTS: 'orders-ops,ops.example' })
  for (const host of ['evil.example', 'evil.example:3001', 'localhost.evil.example', '127.0.0.1.evil.example', 'ops.example.evil.example', 'xlocalhost', 'me@127.0.0.1', '[::1', 'localhost:3001, evil.example']) {
    for (const url of ['/', '/drain', '/metrics', '/readyz?verbose', '/livez', '/health', '/fleet', '/reports', '/events/dead', '/nothing']) {
      const answer = await ops.inject({ url, headers: { host } })
      t.equal(answer.statusCode, host === 'me@127.0.0.1' || host === '[::1' || host.includes(' ') ? 400 : 403, `${url} at '${host}'`)
      t.equal(answer.headers['content-type'], 'application/problem+json')
    }
  }
  for (const host of ['localhost', 'LOCALHOST:3001', '127.0.0.1', '10.1.2.3:3001', '[::1]:3001', '[fd00::7]', hostname(), `${hostname()}:3001`, 'orders-ops:3001', 'Ops.Example']) {
    t.equal((await ops.inject({ url: '/metrics', headers: { host } })).statusCode, 200, host)
  }
})

t.test('a page of another site or origin reads nothing and does nothing, by any method', async t => {
  const { app, ops } = await start(t, { OPS_ALLOWED_HOSTS: 'ops.example' })
  const others: Array<Record<string, string>> = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' },
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: 'http://localhost:3000' },
    { origin: 'https://localhost:3001' },
    { host: 'ops.example', origin: 'https://evil.example' }
  ]
  for (const headers of others) {
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS'] as const) {
      for (const url of ['/', '/drain', '/metrics', '/livez', '/events/dead']) {
        const answer = await ops.inject({ method, url, headers: { host: 'localhost:3001', ...headers } })
        t.equal(answer.statusCode, 403, `${method} ${url} ${JSON.stringify(headers)}`)
        t.notOk(answer.headers['access-control-allow-origin'])
      }
    }
  }
  t.equal(app.drain.state, 'serving')
})

t.test('the page on the ops port works when typed, from a link and by its own scripts, also behind a proxy with TLS', async t => {
  const { ops } = await start(t, { OPS_ALLOWED_HOSTS: 'ops.example', OPS_TOKEN: 'thelandlord' })
  const host = 'localhost:3001'
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
  t.equal((await ops.inject({ url: '/', headers: { host, 'sec-fetch-site': 'none' } })).statusCode, 200)
  t.equal((await ops.inject({ url: '/', headers: { host, ...link } })).statusCode, 200)
  t.equal((await ops.inject({ url: '/reports', headers: { host, ...link } })).statusCode, 403, 'a link may lead to the page only')
  t.match((await ops.inject({ url: '/drain', headers: { host, 'sec-fetch-site': 'same-origin' } })).json(), { mayDrain: 'granted' })
  const byProxy = { host: 'ops.example', origin: 'https://ops.example', 'sec-fetch-site': 'same-origin' }
  t.equal((await ops.inject({ method: 'POST', url: '/drain', headers: byProxy })).statusCode, 401, 'the proxy is no operator')
  t.equal((await ops.inject({ method: 'POST', url: '/drain', headers: { ...byProxy, authorization: 'Bearer thelandlord' } })).statusCode, 202)
})

t.test('GET /drain shows all that a stop is waiting for', async t => {
  const { app, ops, slow } = await start(t)
  const request = fetch(`${app.listeningOrigin}/slow`)
  await slow.begun
  app.drain.on('closing', () => slow.done, { name: 'wait for the slow one' })
  t.match((await ops.inject('/drain')).json(), {
    process: { instance: hostname(), pid: process.pid, node: process.version },
    report: { state: 'serving', startedAt: null, requests: { pending: [{ method: 'GET', route: '/slow', phase: 'handler' }] } },
    readiness: [{ name: 'started', ok: true }, { name: 'drain', ok: true }, { name: 'database', ok: true }],
    intake: { queued: 0, batches: 0 },
    streams: 0,
    mayDrain: 'granted'
  })

  const stopped = app.drain.start('test')
  const live = await answerWhere(ops, ({ report }) => report.state === 'closing' && report.hooks.some(({ name }) => name === 'wait for the slow one'))
  t.match(live, {
    report: { requests: { inFlight: 1 }, hooks: [{ name: 'stop the retention', outcome: 'done' }, { name: 'write down the stop', outcome: 'done' }], remaining: Number },
    readiness: [{ name: 'started', ok: true }, { name: 'drain', ok: false }]
  })
  slow.end()
  await request
  await stopped
  t.match((await ops.inject('/drain')).json(), { report: { state: 'closed', exitCode: 0, requests: { inFlight: 0, completed: { count: 1 } } } })
})

t.test('GET /drain/report waits until a stop has ended, and starts none', async t => {
  const { app, ops, slow } = await start(t)
  await ops.listen({ port: 0 })
  const gone = new AbortController()
  const early = fetch(`${ops.listeningOrigin}/drain/report`, { signal: gone.signal })
  const waiting = ops.inject('/drain/report')
  await answerWhere(ops, ({ report }) => report.state === 'serving')
  gone.abort()
  await t.rejects(early)
  t.equal(app.drain.state, 'serving')

  const request = fetch(`${app.listeningOrigin}/slow`)
  await slow.begun
  app.drain.start('test')
  let answered = false
  const answer = ops.inject('/drain/report').then(answer => {
    answered = true
    return answer
  })
  await answerWhere(ops, ({ report }) => report.state === 'closing')
  t.equal(answered, false)
  slow.end()
  await request
  for (const answered of [await waiting, await answer]) t.match(answered.json(), { state: 'closed', reason: 'test', exitCode: 0 })
})

for (const { path, exitCode } of [{ path: '/livez', exitCode: 0 }, { path: '/stuck', exitCode: 20 }]) {
  t.test(`a client gets the final report before the process exits with ${exitCode}`, async t => {
    const { url } = await createTestDatabase(t)
    const { line, exited } = startProgram(t, [process.execPath, join(import.meta.dirname, 'ops-process.ts')], {
      env: { ...settings, PATH: process.env.PATH, DATABASE_URL: url },
      stdio: ['ignore', 'pipe', 'inherit']
    })
    const { app, ops } = JSON.parse(await line(/^\{/))

    fetch(`${app}${path}`).catch(() => {})
    await answerWhere(ops, ({ report }) => exitCode === 0 || report.requests.inFlight === 1)
    t.equal((await fetch(`${ops}/drain`, { method: 'POST' })).status, 202)
    const report = await (await fetch(`${ops}/drain/report`)).json()
    t.match(report, { state: 'closed', reason: 'ops', exitCode })
    t.same(await exited, [exitCode, null])
  })
}

t.test('/reports lists earlier stops, newest first, and says which of them never finished', async t => {
  const { ops, sql, url } = await start(t)
  const other = await start(t, { DATABASE_URL: url })
  await other.app.drain.start('test')
  // A pid that no process can have, on this machine and on another.
  await sql.query(`INSERT INTO stops (id, instance, pid, started_at, stopping_at) VALUES
    (gen_random_uuid(), $1, 2147483647, now() - interval '1 day', NULL),
    (gen_random_uuid(), 'another', 2147483647, now() - interval '2 days', now() - interval '1 day'),
    (gen_random_uuid(), 'pod', 1, now() - interval '3 days', NULL),
    (gen_random_uuid(), 'pod', 1, now() - interval '4 days', NULL)`, [hostname()])

  const { reports } = (await ops.inject('/reports')).json()
  t.match(reports[0], { life: 'finished', reason: 'test', instance: hostname(), pid: process.pid, report: { reason: 'test', requests: { abandoned: { count: 0 } } } })
  t.ok(Date.parse(reports[0].finishedAt) >= Date.parse(reports[0].stoppingAt))
  t.match(reports.slice(2), [
    { life: 'gone', instance: hostname(), stoppingAt: null, finishedAt: null, exitCode: null, report: null },
    { life: 'unknown', instance: 'another', stoppingAt: String, finishedAt: null },
    { life: 'unknown', instance: 'pod', finishedAt: null },
    { life: 'gone', instance: 'pod', finishedAt: null }
  ], 'two lives of one instance and pid cannot both run')

  t.equal((await ops.inject('/reports?limit=2')).json().reports.length, 2)
  t.match((await ops.inject('/reports?limit=0')).json(), { status: 400, type: /invalid-request$/ })
})

t.test('/reports marks the life of the process that answers', async t => {
  const { ops } = await start(t)
  t.match((await ops.inject('/reports')).json(), { reports: [{ life: 'this', pid: process.pid, finishedAt: null }] })
})

t.test('a read of earlier stops never opens a database that the stop has closed', async t => {
  const { app, ops, sql } = await start(t)
  t.equal((await ops.inject('/reports')).statusCode, 200)
  await app.drain.start('test')
  // A backend outlives its connection by a moment.
  while (await connections() > 0);

  const answer = await ops.inject('/reports')
  t.equal(answer.statusCode, 503)
  t.match(answer.json(), { type: /not-started$/, detail: /closed/ })
  await ops.inject('/readyz?verbose')
  await ops.inject('/drain')
  t.equal(await connections(), 0)

  async function connections (): Promise<number> {
    const { rows } = await sql.query("SELECT FROM pg_stat_activity WHERE application_name = 'last-orders' AND datname = current_database()")
    return rows.length
  }
})

t.test('a stop waits for a read of earlier stops that began before it', async t => {
  const { app, ops, sql } = await start(t)
  // Holds up reads of the table, and not the stop's own writes.
  await sql.query(`CREATE FUNCTION held () RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() LIKE 'SELECT%' THEN PERFORM pg_advisory_xact_lock(1); END IF;
    RETURN true;
  END $$`)
  await sql.query('ALTER TABLE stops RENAME TO held_stops')
  await sql.query('CREATE VIEW stops AS SELECT * FROM held_stops WHERE held()')
  await sql.query('SELECT pg_advisory_lock(1)')

  const answer = ops.inject('/reports')
  await answerWhere(ops, ({ report }) => report.tracked.pending.some(isRead))
  const stopped = app.drain.start('test')
  const closing = await answerWhere(ops, ({ report }) => report.state !== 'draining')
  t.equal(closing.report.tracked.pending.some(isRead), true)
  await sql.query('SELECT pg_advisory_unlock(1)')
  t.equal((await answer).statusCode, 200)
  t.match(await stopped, { exitCode: 0, tracked: { abandoned: [] } })

  function isRead ({ label }: { label: string }): boolean {
    return label === 'read of earlier stops'
  }
})

t.test('/reports answers with a 503 problem if the database cannot be read', async t => {
  const { ops, sql } = await start(t)
  await sql.query('ALTER TABLE stops RENAME TO elsewhere')
  const answer = await ops.inject('/reports')
  t.equal(answer.statusCode, 503)
  t.equal(answer.headers['content-type'], 'application/problem+json')
  t.match(answer.json(), { type: /not-started$/ })
})

t.test('the page on the ops port is one file, and its policy lets nothing else run', async t => {
  const { ops } = await start(t)
  const { statusCode, headers, body } = await ops.inject('/')
  t.equal(statusCode, 200)
  t.equal(headers['content-type'], 'text/html; charset=utf-8')

  const policy = String(headers['content-security-policy'])
  t.match(policy, "default-src 'none'")
  t.notMatch(policy, 'unsafe')
  for (const element of ['script', 'style']) {
    const contents = [...body.matchAll(new RegExp(`<${element}[^>]*>(.*?)</${element}>`, 'gs'))].map(([, content = '']) => content)
    t.same(policy.match(new RegExp(`${element}-src ([^;]*)`))?.[1], contents.map(content => `'sha256-${createHash('sha256').update(content).digest('base64')}'`).join(' '))
  }
  t.notMatch(body, /\s(src|style|on[a-z]+)=|@import|<link[^>]*href="(?!data:)|url\(/, 'it loads nothing, and holds nothing that the policy forbids')
})

t.test('no answer of the ops port is cached, and each logs one debug line', async t => {
  const { ops, lines } = await start(t, { LOG_LEVEL: 'debug' })
  for (const url of ['/', '/drain', '/metrics', '/livez', '/readyz', '/reports', '/nothing']) {
    t.equal((await ops.inject(url)).headers['cache-control'], 'no-store', url)
    t.match(lines.filter(line => line.url === url), [{ level: 20, msg: 'ops request completed' }], url)
  }
  t.same(lines.filter(({ level, reqId }) => level > 20 && reqId !== undefined), [])
})

const settings = { NODE_ENV: 'test', AUTH_JWT_SECRET: 'of the test' }

interface Line {
  level: number
  msg: string
  url?: string
  reqId?: string
}

/** Starts the service and its operators' port on a database of their own, with a route that answers when the test ends it. */
async function start (t: Test, environment: Record<string, string> = {}) {
  const { url } = environment.DATABASE_URL === undefined ? await createTestDatabase(t) : { url: environment.DATABASE_URL }
  const config = loadConfig({ ...settings, DATABASE_URL: url, ...environment })
  const lines: Line[] = []
  const logger = pino({ level: environment.LOG_LEVEL ?? 'silent' }, { write: line => lines.push(JSON.parse(line)) })
  const app = await buildApp({ config, database: { url }, auth: { secret: settings.AUTH_JWT_SECRET }, logger, drain: { exit: false } })
  const begun = Promise.withResolvers<void>()
  const done = Promise.withResolvers<void>()
  app.get('/slow', async () => {
    begun.resolve()
    await done.promise
    return 'done'
  })
  const ops = await buildOps({ app, config, logger })
  const sql = new pg.Client({ connectionString: url, application_name: 'test' })
  await sql.connect()
  t.teardown(async () => {
    done.resolve()
    await app.close()
    await ops.close()
    await sql.end()
  })
  await app.listen({ port: 0 })
  return { app, ops, sql, url, lines, slow: { begun: begun.promise, done: done.promise, end: done.resolve } }
}

interface Live {
  report: {
    state: string
    requests: { inFlight: number }
    tracked: { pending: Array<{ label: string }> }
    hooks: Array<{ name: string }>
  }
}

async function answerWhere (ops: string | { inject (url: string): Promise<{ json (): Live }> }, isSo: (live: Live) => boolean): Promise<Live> {
  for (;;) {
    const live: Live = typeof ops === 'string' ? await (await fetch(`${ops}/drain`)).json() as Live : (await ops.inject('/drain')).json()
    if (isSo(live)) return live
    // inject() alone would never let the event loop run anything else.
    await turn()
  }
}
