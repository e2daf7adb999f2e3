import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import { buildOps } from '../../../ops.ts'
import { migrate } from '../../../prisma/migrate.ts'
import { Cluster } from '../../../verify/postgres/cluster.ts'
import { startApp } from '../../app.ts'
import { runProgram } from '../../program.ts'
import { needsPrometheus, startPrometheus } from '../../prometheus.ts'
import { startAnswering, vector, type Answer } from './answering.ts'

const program = join(import.meta.dirname, '../../../deploy/release/slo-gate.ts')

t.test('the gate refuses a release once Postgres has died, although no request had failed before', needsPrometheus, async t => {
  const cluster = await Cluster.create({ postgres: { settings: { fsync: 'off' } }, log: join(t.testdir(), 'postgres.log') })
  t.teardown(() => cluster.close())
  await migrate({ url: cluster.url })
  const { app, ask, token, sql } = await startApp(t, { databaseUrl: cluster.url, settings: { REQUEST_TIMEOUT_MS: '1000' } })
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
  const ops = await buildOps({ app, config: { ops: { host: '127.0.0.1', port: 0, token: undefined } }, logger: pino({ level: 'silent' }) })
  t.teardown(() => ops.close())
  const { url, query } = await startPrometheus(t, { targets: [new URL(await ops.listen({ host: '127.0.0.1', port: 0 })).host] })
  const order = async (n: number): Promise<number> => (await ask('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': `${n}` } })).status
  /** Waits until Prometheus has seen this many answers with a status. */
  const seen = async (status: string, count: number): Promise<void> => {
    while (((await query(`http_server_request_duration_seconds_count{http_route="/orders", http_response_status_code="${status}"}`)).at(-1)?.value ?? 0) < count) await delay(100)
  }

  // A rate needs a step between two scrapes.
  t.equal(await order(0), 201)
  await seen('201', 1)
  for (let n = 1; n <= 20; n++) t.equal(await order(n), 201)
  await seen('201', 21)
  t.equal((await gate(url, { SLO_WINDOW: '1m', SLO_RECENT: '1m' })).code, 0, 'the gate allows a release of the healthy service')

  await cluster.crash('kill')
  const failed = await Promise.all(Array.from({ length: 7 }, (_, n) => order(100 + n)))
  t.strictSame(failed, Array.from({ length: 7 }, () => 503))
  while ((await query('sum(http_server_request_duration_seconds_count{http_response_status_code="503", http_route="/orders"})'))[0]?.value !== 7) await delay(100)
  const { code, output } = await gate(url, { SLO_WINDOW: '1m', SLO_RECENT: '1m' })
  t.equal(code, 1, output)
  t.match(output, /refused {2}-\d+\.\d % of the error budget of 1m is left/)
  t.match(output, /refused {2}In the last 1m it burned at \d{3}\.\d times/)
  t.match(output, /Nothing was released/)
})

t.test('the gate decides by the series in Prometheus', needsPrometheus, async t => {
  const failing = (share: number): string => historyOf(minute => minute > 55 ? share : 0)
  const histories = {
    'a service within its budget may be released': [failing(0.0001), {}, 0, /In the last 5m it burned at 0\.1 times/],
    'a service that has burnt its budget may not be released': [historyOf(minute => minute < 40 ? 0.05 : 0), {}, 1, /refused {2}-\d+\.\d % of the error budget/],
    'a service that burns its budget at this moment may not be released, even with most of it left': [failing(0.02), { SLO_BUDGET_MIN: '0', SLO_OBJECTIVE: '0.998', SLO_BURN_MAX: '5' }, 1, /ok .* of the error budget[^]*refused {2}In the last 5m it burned at \d+\.\d times/],
    'an old series with other labels counts no requests': [historyOf(() => 0).replaceAll('http_route=', 'route='), {}, 2, /answered nothing/],
    'the gate does not ask for the series of another service': [failing(0.0001), { SLO_SELECTOR: 'namespace="elsewhere"' }, 2, /answered nothing/]
  } satisfies Record<string, [string, Record<string, string>, number, RegExp]>
  for (const [name, [history, env, expected, told]] of Object.entries(histories)) {
    await t.test(name, async t => {
      const { url } = await startPrometheus(t, { history })
      const { code, output } = await gate(url, { SLO_WINDOW: '1h', ...env })
      t.equal(code, expected, output)
      t.match(output, told)
    })
  }
})

t.test('the gate gives no permission without a valid answer', async t => {
  const answers = {
    'no series': [vector(), /answered nothing/],
    'no requests': [vector('NaN'), /answered NaN/],
    'no limit': [vector('+Inf'), /answered \+Inf/],
    'two series': [vector('0', '0'), /answered 0, 0/],
    'a scalar': [[200, { status: 'success', data: { resultType: 'scalar', result: [1_763_894_000.5, '0'] } }], /answered nothing/],
    'another service': [[200, 'It works!'], /answered nothing/],
    'a query that cannot be run': [[422, { status: 'error', errorType: 'execution', error: 'too many samples' }], /answered 422: .*too many samples/],
    'a failure': [[503, { status: 'error', errorType: 'timeout', error: 'query timed out' }], /answered 503: .*query timed out/]
  } satisfies Record<string, [Answer, RegExp]>
  for (const [name, [answer, told]] of Object.entries(answers)) {
    const { url } = await startAnswering(t, () => answer)
    const { code, output } = await gate(url)
    t.equal(code, 2, name)
    t.match(output, told)
    t.match(output, /Nothing was released, because the gate has no answer/)
  }
})

t.test('the gate gives no permission if Prometheus cannot be reached', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  const { code, output } = await gate(`http://127.0.0.1:${port}`)
  t.equal(code, 2)
  t.match(output, /did not answer: .*ECONNREFUSED/)
})

t.test('the gate lists all wrong settings at once, and gives no permission', async t => {
  const { code, output } = await gate('', { SLO_OBJECTIVE: '99.9', SLO_WINDOW: 'a month', SLO_BUDGET_MIN: 'some' })
  t.equal(code, 2)
  for (const name of ['PROMETHEUS_URL', 'SLO_OBJECTIVE', 'SLO_WINDOW', 'SLO_BUDGET_MIN']) t.match(output, name)
})

t.test('the gate asks with its token, for the selected series and by the set objective', async t => {
  const { url, queries, tokens } = await startAnswering(t, () => vector('0'))
  await gate(`${url}/`, { PROMETHEUS_TOKEN: 'for the gate', SLO_SELECTOR: 'namespace="production"', SLO_OBJECTIVE: '0.99', SLO_WINDOW: '7d' })
  t.match(queries[0], /namespace="production"\}\[7d\]\)\)\) \/ \(1 - 0\.99\)$/)
  t.strictSame(tokens, ['Bearer for the gate', 'Bearer for the gate'])
})

t.test('a reason in SLO_OVERRIDE overrides the gate, and is printed', async t => {
  const { code, output } = await gate('', { SLO_OVERRIDE: 'this release mends what burns' })
  t.equal(code, 0)
  t.match(output, /this release mends what burns/)
})

/**
 * The last hour of one instance, with 60,000 requests a minute.
 *
 * @param share the share of failed requests in a minute; minutes count from 0
 */
function historyOf (share: (minute: number) => number): string {
  const from = Math.floor(Date.now() / 60_000) * 60 - 59 * 60
  const totals = { 201: 0, 503: 0 }
  const samples = Array.from({ length: 60 }, (_, minute) => {
    const failed = Math.round(60_000 * share(minute))
    totals[201] += 60_000 - failed
    totals[503] += failed
    return Object.entries(totals).map(([status, total]) => [status, total, from + 60 * minute] as const)
  }).flat().toSorted(([a], [b]) => a.localeCompare(b))
  return `# TYPE http_server_request_duration_seconds_count unknown
${samples.map(([status, total, at]) => `http_server_request_duration_seconds_count{http_request_method="POST",http_route="/orders",http_response_status_code="${status}"} ${total} ${at}\n`).join('')}`
}

async function gate (url: string, env: Record<string, string> = {}): Promise<{ code: number | string, output: string }> {
  const { code, stdout, stderr } = await runProgram([process.execPath, program], { env: { PROMETHEUS_URL: url, ...env } })
  return { code, output: stdout + stderr }
}
