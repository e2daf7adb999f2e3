import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { METHODS } from 'node:http'
import { connect } from 'node:net'
import { Gauge } from '@prometheus-io/client'
import Fastify, { type FastifyInstance } from 'fastify'
import drain from 'fastify-drain'
import pg from 'pg'
import t from 'tap'
import errors, { problems } from '../../plugins/errors.ts'
import metrics from '../../plugins/metrics.ts'
import requestTelemetry from '../../plugins/request-telemetry.ts'
import { startApp, type Answer } from '../app.ts'
import { samplesOf, valueOf, withFigures } from '../exposition.ts'

const { app, url, ask, token, sql, databaseUrl } = await startApp(t, {
  settings: { REVISION: '3c52eb7' },
  extend: app => {
    app.get('/traced', async request => {
      request.sampledTraceId = '4bf92f3577b34da6a3ce929d0e0e4736'
      return 'recorded'
    })
  }
})
const alice = token('alice')
const boss = token('boss', { staff: true })

/** False for Node's own resources: their types come and go with the service's work, such as the sweep for slow readers. */
function isSteady (name: string): boolean {
  return !name.startsWith('nodejs_active_')
}

async function place (key: string, item: { sku: string, quantity: number }, currency = 'EUR'): Promise<Answer<{ id: string }>> {
  return await ask('POST', '/orders', { token: alice, body: { currency, items: [item] }, headers: { 'idempotency-key': key } })
}

t.test('a series begins at 0 before its first event, so that the event is a step', async t => {
  const metrics = await withFigures(app)
  for (const status of ['500', '503']) t.equal(valueOf(metrics, 'http_server_request_duration_seconds_count', { http_request_method: 'POST', http_route: '/orders', http_response_status_code: status }), 0, status)
  for (const errorType of ['outcome-unknown', 'abandoned']) t.equal(valueOf(metrics, 'http_server_request_duration_seconds_count', { http_request_method: 'POST', http_route: '/orders', error_type: errorType }), 0, errorType)
  t.equal(valueOf(metrics, 'http_server_request_duration_seconds_count', { http_route: '/readyz', error_type: 'abandoned' }), undefined, 'a stop abandons no probe')
  for (const type of Object.keys(problems)) t.equal(valueOf(metrics, 'problems_total', { type }), 0, type)
  for (const outcome of ['placed', 'paid', 'shipped', 'delivered', 'cancelled', 'replayed', 'key-reused', 'out-of-stock', 'unknown-product', 'not-started', 'outcome-unknown']) t.equal(valueOf(metrics, 'orders_total', { outcome }), 0, outcome)
  t.equal(valueOf(metrics, 'orders_value_total', { currency: 'USD' }), 0, 'a currency of the catalogue')
  for (const outcome of ['published', 'failed', 'dead']) t.equal(valueOf(metrics, 'outbox_events_total', { outcome }), 0, outcome)
  t.equal(valueOf(metrics, 'database_uncertain_commits_total'), 0)
  t.equal(valueOf(metrics, 'stops_total', { outcome: 'unfinished', reason: 'killed-serving' }), 0)
  t.equal(valueOf(metrics, 'build_info', { version: '0.1.0', revision: '3c52eb7' }), 1)
})

t.test('a placed order is counted once, with its value; a replay and a refusal are counted apart', async t => {
  const key = randomUUID()
  const { body: { id } } = await place(key, { sku: 'ale-pint', quantity: 2 })
  await place(key, { sku: 'ale-pint', quantity: 2 })
  await place(key, { sku: 'ale-pint', quantity: 3 })
  await place(randomUUID(), { sku: 'malt-1989', quantity: 6 })
  await place(randomUUID(), { sku: 'nothing', quantity: 1 })
  await ask('POST', `/orders/${id}/pay`, { token: alice })
  await ask('POST', `/orders/${id}/pay`, { token: alice })
  await ask('POST', `/orders/${id}/cancel`, { token: alice })

  const metrics = await app.metrics.render()
  const counts = Object.fromEntries(samplesOf(metrics).filter(({ name, value }) => name === 'orders_total' && value > 0).map(({ labels: { outcome = '' }, value }) => [outcome, value]))
  t.same(counts, { placed: 1, replayed: 1, 'key-reused': 1, 'out-of-stock': 1, 'unknown-product': 1, paid: 1, cancelled: 1 })
  t.equal(valueOf(metrics, 'orders_value_total'), 1_040)
  t.equal(valueOf(metrics, 'problems_total', { type: 'out-of-stock' }), 1)
  t.equal(valueOf(metrics, 'intake_wait_duration_seconds_count'), 5)
  t.ok((valueOf(metrics, 'db_client_connection_wait_duration_seconds_count') ?? 0) >= 5)
})

t.test('two orders with one key at the same time are counted as one order and one replay', async t => {
  const before = await app.metrics.render()
  const key = randomUUID()
  await Promise.all([place(key, { sku: 'crisps', quantity: 1 }), place(key, { sku: 'crisps', quantity: 1 })])
  const after = await app.metrics.render()
  for (const outcome of ['placed', 'replayed']) t.equal((valueOf(after, 'orders_total', { outcome }) ?? 0) - (valueOf(before, 'orders_total', { outcome }) ?? 0), 1, outcome)
})

t.test('no client can make new series by methods, paths, currencies, keys or bodies', async t => {
  await ask('PUT', '/products/gold', { token: boss, body: { name: 'Gold', unitPrice: 1, currency: 'XXX', stock: 9 } })
  for (const currency of ['AAA', 'BBB', 'QQQ']) await ask('PUT', `/products/${currency}`, { token: boss, body: { name: currency, unitPrice: 1, currency, stock: 9 } })
  const assault = async (round: number): Promise<void> => {
    for (const method of METHODS.filter(method => method !== 'CONNECT')) {
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      socket.resume().end(`${method} /orders/${round}-${method} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`)
      await once(socket, 'close')
    }
    for (const path of ['/orders/%zz', `/${randomUUID()}`, `/products/${randomUUID()}`, `/orders/${randomUUID()}/events`, `/orders/stream/${round}`, '/docs/static/../../x', `/orders?status=${round}`]) await ask('GET', path, { token: alice })
    for (const currency of ['AAA', 'BBB', 'QQQ']) await place(randomUUID(), { sku: currency, quantity: 1 }, currency)
    await place(`key ${round}`, { sku: 'ale-pint', quantity: 0 })
    await ask('POST', '/orders', { token: alice, body: `{"currency":"${round}`, headers: { 'content-type': `text/${randomUUID()}` } })
    const noHttp = connect(Number(new URL(url).port), '127.0.0.1')
    noHttp.resume().end(`${randomUUID()}\r\n\r\n`)
    await once(noHttp, 'close')
  }
  const series = async (): Promise<string[]> => samplesOf(await withFigures(app)).filter(({ name }) => isSteady(name)).map(({ name, labels }) => `${name} ${JSON.stringify(labels)}`)
  await assault(1)
  const known = new Set(await series())
  await assault(2)
  t.same((await series()).filter(one => !known.has(one)), [])
  const samples = samplesOf(await app.metrics.render())
  t.same([...new Set(samples.flatMap(({ labels }) => labels.http_request_method ?? []))].toSorted(), ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'PATCH', 'POST', 'PUT', 'QUERY', 'TRACE', '_OTHER'])
  t.equal(valueOf(await app.metrics.render(), 'orders_value_total', { currency: 'other' }), 6, 'all currencies outside ISO 4217 share one series')
  t.ok(samples.length < 4_000, `${samples.length} series`)
})

t.test('the metrics can be rendered as OpenMetrics, with the trace of a recorded request, and the text format has none', async t => {
  const before = await withFigures(app)
  await ask('GET', '/traced')
  const openMetrics = await app.metrics.render('openMetrics')
  t.match(openMetrics, /# EOF\n$/)
  t.match(openMetrics, /^# TYPE orders counter$/m)
  t.match(openMetrics, /^orders_total\{outcome="placed"\} \d+$/m)
  t.match(openMetrics, /^http_server_request_duration_seconds_bucket\{.*http_route="\/traced".*\} 1 # \{trace_id="4bf92f3577b34da6a3ce929d0e0e4736"\}/m)
  t.notMatch(before, 'trace_id')
  const namesOf = (text: string): string[] => [...new Set(samplesOf(text).map(({ name }) => name))].filter(isSteady).toSorted()
  t.same(namesOf(openMetrics), namesOf(before))
  t.same(namesOf(await app.metrics.render()), namesOf(before), 'the text format is the same afterwards')
})

t.test('figures of the database are read once for the scrapes of some seconds, and are missing while it does not answer', async t => {
  let reads = 0
  async function measure (maxAgeMs?: number): Promise<FastifyInstance> {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(errors)
    await app.register(requestTelemetry)
    await app.register(metrics, { build: { version: '1', revision: undefined }, ...maxAgeMs !== undefined && { figuresMaxAgeMs: maxAgeMs } })
    await app.register(drain, { exit: false })
    const events = new Gauge({ name: 'events', help: 'Events', registers: app.metrics.registers })
    app.metrics.ofDatabase({
      instruments: [events],
      read: async () => {
        reads++
        return (await sql.query<{ count: number }>('SELECT count(*)::integer AS count FROM outbox')).rows[0]?.count ?? 0
      },
      show: count => events.set(count)
    })
    await app.ready()
    return app
  }

  const cached = await measure()
  await Promise.all([cached.metrics.render(), cached.metrics.render()])
  t.type(valueOf(await withFigures(cached), 'events'), 'number')
  t.equal(reads, 1)

  const fresh = await measure(0)
  await sql.query('ALTER TABLE outbox RENAME TO elsewhere')
  const without = await fresh.metrics.render()
  t.same([valueOf(without, 'database_gauges_up'), valueOf(without, 'events')], [0, undefined], 'an error')
  await sql.query('ALTER TABLE elsewhere RENAME TO outbox')

  const { pid } = (await sql.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0] ?? {}
  const holder = new pg.Client({ connectionString: databaseUrl })
  await holder.connect()
  t.teardown(() => holder.end())
  await holder.query('BEGIN; LOCK TABLE outbox')
  reads = 0
  const hanging = await Promise.all([fresh.metrics.render(), fresh.metrics.render()])
  t.same(hanging.map(text => valueOf(text, 'events')), [undefined, undefined], 'no answer')
  t.equal(reads, 1, 'one read waits for the database, and no scrape does')
  t.equal((await holder.query('SELECT FROM pg_locks WHERE pid = $1 AND NOT granted', [pid])).rowCount, 1)
  await holder.query('ROLLBACK')
})
