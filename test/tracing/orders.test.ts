import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { request } from 'undici'
import { loadConfig } from '../../config.ts'
import { startTracing } from '../../tracing/start.ts'
import { traceStop } from '../../tracing/stop-trace.ts'
import { startApp, type Answer } from '../app.ts'
import { serviceWaitsForLock } from '../faults.ts'
import { startCollector, type Span } from './collector.ts'

interface Line { msg: string, reqId?: string, trace_id?: string, span_id?: string, durationMs?: number, status?: number }
interface Post { headers: IncomingHttpHeaders, events: Array<{ subject: string, traceparent?: string, data: object }> }

const collector = await startCollector(t)
const published: Post[] = []
const receiver = createServer((request, response) => {
  void json(request).then(events => {
    published.push({ headers: request.headers, events: events as Post['events'] })
    response.writeHead(204).end()
  })
}).listen(0, '127.0.0.1')
await once(receiver, 'listening')
t.teardown(() => receiver.close())

const lines: Line[] = []
const log = { info () {}, warn: (details: object, message: string) => { lines.push({ msg: message, ...details }) } }
// A trace that begins here is sampled for its links only.
const { tracing } = loadConfig({ OTEL_TRACES_SAMPLER: 'parentbased_always_off', OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`, OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%20b', OTEL_RESOURCE_ATTRIBUTES: 'team=cellar' })
if (tracing.export === undefined) throw new Error('No traces were asked for')
const traces = startTracing(tracing.export, log)
t.teardown(() => traces.shutdown())

let handlerRuns = Promise.withResolvers<void>()
const { app, url, ask, token, sql } = await startApp(t, {
  traces,
  log: { write: (line: string) => { lines.push(JSON.parse(line)) } },
  drain: { deadline: 1_500 },
  settings: { EVENTS_URL: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`, INTAKE_IN_FLIGHT: '1', REQUEST_TIMEOUT_MS: '20000' },
  extend: app => {
    app.get('/broken', async () => { throw new Error('broken on purpose') })
    app.get('/endless', async () => {
      handlerRuns.resolve()
      await new Promise(() => {})
    })
  }
})
const alice = token('alice')

/** A caller with a trace of its own. */
function caller (flags = '01'): { traceId: string, spanId: string, headers: { traceparent: string } } {
  const traceId = randomBytes(16).toString('hex')
  const spanId = randomBytes(8).toString('hex')
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-${flags}` } }
}

function place (headers: Record<string, string> = {}, sku = 'ale-pint'): Promise<Answer<{ id: string }>> {
  return ask('POST', '/orders', { token: alice, headers: { 'idempotency-key': crypto.randomUUID(), ...headers }, body: { currency: 'EUR', items: [{ sku, quantity: 1 }] } })
}

/** Places orders that share a batch: all wait while another one waits for a lock. */
async function placeTogether (headers: Array<Record<string, string>>): Promise<void> {
  await sql.query("BEGIN; SELECT FROM products WHERE sku = 'crisps' FOR UPDATE")
  const first = place(caller('00').headers, 'crisps')
  await serviceWaitsForLock(sql)
  const others = headers.map(one => place(one))
  while (app.orders.intake.queued < headers.length) await delay(5)
  await sql.query('COMMIT')
  for (const answer of await Promise.all([first, ...others])) if (answer.status !== 201) throw new Error(answer.text)
}

/** The spans so far that match. */
async function spansOf (matches: (span: Span) => boolean = () => true): Promise<Span[]> {
  await traces.flush(5_000)
  return collector.spans.filter(matches)
}

/** Waits for the spans of a trace, because a span may end after the effect of its work is seen. */
async function spansOfTrace (id: string, names: string[]): Promise<Span[]> {
  for (const giveUpAt = performance.now() + 20_000; ;) {
    const spans = await spansOf(({ traceId }) => traceId === id)
    const found = spans.map(({ name }) => name).sort().join()
    if (found === names.sort().join()) return spans
    if (performance.now() > giveUpAt) throw new Error(`The trace has ${found}, and should have ${names.join()}`)
    await delay(10)
  }
}

function one<T> (found: T[]): T {
  const [only] = found
  if (only === undefined || found.length > 1) throw new Error(`There should be one, and there are ${found.length}: ${JSON.stringify(found)}`)
  return only
}

const named = (name: string) => (span: Span): boolean => span.name === name
const postOf = (orderId: string): Post | undefined => published.find(({ events }) => events.some(({ subject }) => subject === orderId))

t.test('the trace id of an order is in the log, its request, its batch, the outbox and the published event', async t => {
  const { traceId, spanId, headers } = caller()
  const { body: { id }, headers: answered } = await place(headers)
  while (postOf(id) === undefined) await delay(5)
  const ours = await spansOfTrace(traceId, ['POST /orders', 'intake', 'send order events'])

  const server = one(ours.filter(named('POST /orders')))
  t.match(server, {
    parentSpanId: spanId,
    kind: 'server',
    isError: false,
    attributes: {
      'http.request.method': 'POST',
      'http.route': '/orders',
      'url.path': '/orders',
      'url.scheme': 'http',
      'server.address': '127.0.0.1',
      'http.response.status_code': 201,
      'http.response.header.x-request-id': [answered['x-request-id']]
    }
  })
  const intake = one(ours.filter(named('intake')))
  t.match(intake, { parentSpanId: server.spanId, attributes: { 'order.outcome': 'created' } })

  const batch = one(await spansOf(span => intake.links.some(link => link.spanId === span.spanId)))
  t.match(batch, { name: 'place orders', attributes: { 'intake.batch.size': 1 }, links: [{ traceId, spanId: intake.spanId }] })
  t.equal(batch.parentSpanId, undefined, 'the batch is a trace of its own')
  t.match(one(await spansOf(span => span.parentSpanId === batch.spanId)), {
    name: 'place_orders',
    kind: 'client',
    attributes: { 'db.system.name': 'postgresql', 'db.stored_procedure.name': 'place_orders', 'db.query.text': /^SELECT place_orders\(\$1/ }
  })

  const traceparent = `00-${traceId}-${intake.spanId}-01`
  t.match((await sql.query('SELECT trace_context FROM outbox WHERE order_id = $1', [id])).rows, [{ trace_context: traceparent }])
  const send = one(ours.filter(named('send order events')))
  t.match(send, { parentSpanId: intake.spanId, kind: 'producer', links: [{ spanId: intake.spanId }] })
  const post = postOf(id)
  t.equal(post?.headers.traceparent, `00-${traceId}-${send.spanId}-01`)
  t.match(post?.events, [{ traceparent, data: { orderId: id } }])
  t.notHas(post?.events[0]?.data, { traceparent: String })

  const line = lines.find(({ reqId, msg }) => reqId === answered['x-request-id'] && msg === 'request completed')
  t.match(line, { trace_id: traceId, span_id: server.spanId })
  t.equal(Math.round(server.durationMs * 10) / 10, line?.durationMs, 'span and line have the same duration')
  t.match(collector.resources[0], { 'service.name': 'last-orders', team: 'cellar', 'service.version': String, 'service.instance.id': String })
  t.match(collector.heads[0], { path: '/v1/traces', 'x-key': 'a b' })
})

t.test('the trace id of a transition is in its statement, the outbox and the published event', async t => {
  const { body: { id } } = await place(caller('00').headers)
  const { traceId, headers } = caller()
  const { status, text } = await ask('POST', `/orders/${id}/cancel`, { token: alice, headers })
  if (status !== 200) throw new Error(text)
  while (!published.some(({ events }) => events.some(({ subject, traceparent }) => subject === id && traceparent?.includes(traceId)))) await delay(5)
  await spansOfTrace(traceId, ['POST /orders/:id/cancel', 'move_order', 'send order events'])
  t.match((await sql.query('SELECT version, trace_context FROM outbox WHERE order_id = $1 ORDER BY version', [id])).rows,
    [{ version: 1, trace_context: null }, { version: 2, trace_context: new RegExp(traceId) }], 'an order that is not sampled has no trace context')
})

t.test('each of five orders in a batch has a link to the batch, and the batch has one to each', async t => {
  const five = Array.from({ length: 5 }, () => caller())
  await placeTogether(five.map(({ headers }) => headers))
  const spans = await spansOf()
  const intakes = five.map(({ traceId }) => one(spans.filter(span => span.traceId === traceId && span.name === 'intake')))
  const batch = one(spans.filter(span => span.name === 'place orders' && span.links.some(({ spanId }) => spanId === intakes[0]?.spanId)))
  t.same(batch.links.map(({ spanId }) => spanId).sort(), intakes.map(({ spanId }) => spanId).sort())
  t.same(intakes.map(({ links }) => links.map(({ spanId }) => spanId)), five.map(() => [batch.spanId]))
})

t.test('a batch is sampled if one of its orders is, and not if none is', async t => {
  const before = (await spansOf(named('place orders'))).length
  await placeTogether([caller('00').headers, caller('00').headers])
  t.equal((await spansOf(named('place orders'))).length, before, 'without a sampled order')
  const { traceId, headers } = caller('01')
  await placeTogether([caller('00').headers, headers, caller('00').headers])
  const batch = (await spansOf(named('place orders'))).at(-1)
  t.match(batch, { attributes: { 'intake.batch.size': 3 } })
  t.same(batch?.links.map(link => link.traceId), [traceId])
})

t.test('no trace holds a span of another one, however busy the service is', async t => {
  const gone = new AbortController()
  const stream = caller()
  const { body } = await request(`${url}/orders/stream`, { signal: gone.signal, headers: { authorization: `Bearer ${alice}`, ...stream.headers } })
  body.on('error', () => {})
  const mine: string[] = []
  await Promise.all(Array.from({ length: 19 }, async () => {
    for (let n = 0; n < 11; n++) {
      const { traceId, headers } = caller()
      mine.push(traceId)
      const { status } = await place(headers)
      if (status !== 201) throw new Error(`It was answered with ${status}`)
    }
  }))
  gone.abort()
  // The polls of the feed are in no trace.
  await spansOfTrace(stream.traceId, ['GET /orders/stream', 'SELECT feed_horizon'])
  const byTrace = Map.groupBy(await spansOf(), ({ traceId }) => traceId)
  const kinds = Map.groupBy(byTrace.values(), spans => spans.map(({ name }) => name).sort().join())
  t.equal(mine.length, 209)
  for (const traceId of mine) {
    const names = byTrace.get(traceId)?.map(({ name }) => name).filter(name => name !== 'send order events').sort()
    if (names?.join() !== 'POST /orders,intake') t.fail(`The trace of an order has ${names?.join()}`)
  }
  const batches = [...byTrace.values()].filter(spans => spans.some(named('place orders')))
  t.ok(batches.every(spans => spans.length === 2 && spans.some(named('place_orders'))), `Each batch is a trace of one statement: ${[...kinds.keys()].join(' | ')}`)
})

t.test('a read has its statements in its own trace', async t => {
  const { traceId, headers } = caller()
  await ask('GET', '/orders?reference=hush', { token: alice, headers })
  const spans = await spansOfTrace(traceId, ['GET /orders', 'SELECT orders'])
  t.equal(spans.find(named('GET /orders'))?.attributes['url.path'], '/orders')
  t.notMatch(JSON.stringify(spans), /hush|Bearer|eyJ/, 'no query, no value, no token')
})

t.test('the span of a request whose client has gone is no error, and has the status 499', async t => {
  const { traceId, headers } = caller()
  const gone = new AbortController()
  const answer = request(`${url}/endless`, { signal: gone.signal, headers }).catch(() => {})
  await handlerRuns.promise
  gone.abort()
  await answer
  const [span] = await spansOfTrace(traceId, ['GET /endless'])
  t.match(span, { isError: false, attributes: { 'http.response.status_code': 499, 'error.type': 'client-closed' } })
})

t.test('the span of a failed request is an error with its problem, and a probe has no span', async t => {
  const { traceId, headers } = caller()
  await ask('GET', '/broken', { headers })
  t.match(await spansOfTrace(traceId, ['GET /broken']), [{ isError: true, attributes: { 'http.response.status_code': 500, 'error.type': 'internal-error' } }])
  await ask('GET', '/readyz', { headers: caller().headers })
  t.same(await spansOf(({ name }) => name.includes('readyz')), [])
})

t.test('each log line of a request has its trace id, also if the trace is not sampled or no hook is reached', async t => {
  const idsOf = (id: unknown): unknown[] => lines.filter(({ reqId }) => reqId === id).map(line => line.trace_id)
  const { headers } = await ask('GET', '/broken')
  const [first, ...others] = idsOf(headers['x-request-id'])
  t.match(first, /^[\da-f]{32}$/)
  t.same(others, [first])
  const { traceId, headers: traced } = caller('00')
  const { body } = await ask<{ instance: string }>('GET', '/%zz', { headers: traced })
  t.same(new Set(idsOf(body.instance)), new Set([traceId]))
})

t.test('a stop is a trace with its phases, its hooks, and links to the requests that it abandoned', async t => {
  handlerRuns = Promise.withResolvers()
  const { traceId, headers } = caller()
  const abandoned = request(`${url}/endless`, { headers }).catch(() => {})
  await handlerRuns.promise
  const report = await app.drain.start('test')
  await abandoned
  t.equal(report.exitCode, 20)
  t.match(report.hooks.find(({ name }) => name === 'onReport'), { outcome: 'done' })

  const spans = [...collector.spans]
  const drain = one(spans.filter(named('drain')))
  t.match(drain, { isError: true, attributes: { 'drain.reason': 'test', 'drain.exit_code': 20, 'drain.requests.abandoned': 2 } })
  const request499 = one(spans.filter(span => span.attributes['error.type'] === 'client-closed' && span.name === 'GET /endless'))
  const ours = one(spans.filter(span => span.traceId === traceId))
  t.match(ours, { isError: true, attributes: { 'error.type': 'abandoned' } })
  t.same(drain.links.map(({ spanId }) => spanId).sort(), [ours, request499].map(({ spanId }) => spanId).sort(), 'also to the one whose client had gone before')
  t.same(drain.events.map(({ name }) => name), ['deadline passed', 'request abandoned', 'request abandoned'])

  const ofDrain = spans.filter(span => span.traceId === drain.traceId)
  const childrenOf = (parent: Span): string[] => ofDrain.filter(span => span.parentSpanId === parent.spanId).map(({ name }) => name)
  t.same(childrenOf(drain), ['draining', 'closing', 'app.close'])
  t.ok(childrenOf(one(ofDrain.filter(named('draining')))).includes('write down the stop'))
  t.ok(childrenOf(one(ofDrain.filter(named('closing')))).includes('stop the outbox relay'))
  traceStop({ ...report, requests: { ...report.requests, abandoned: { count: 0, ids: [] } } }, () => undefined)
  t.equal((await spansOf(named('drain'))).length, 2, 'a stop without links is sampled too')
  t.ok(ofDrain.every(({ startMs, durationMs }) => startMs >= drain.startMs && startMs + durationMs <= drain.startMs + drain.durationMs + 1), 'all its spans lie within it')
})

t.test('the tracing SDK logs no complaint', async t => {
  t.same(lines.filter(line => 'details' in line), [])
})
