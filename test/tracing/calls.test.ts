import { context, trace } from '@opentelemetry/api'
import type { ServerResponse } from 'node:http'
import t from 'tap'
import { loadConfig } from '../../config.ts'
import { callWithin, Outbound } from '../../plugins/outbound.ts'
import { startTracing } from '../../tracing/start.ts'
import { tracer } from '../../tracing/trace-context.ts'
import { startCalled, type Behaviour } from '../called.ts'
import { startCollector, type Span } from './collector.ts'

const collector = await startCollector(t)
const log = { info () {}, warn () {} }
const { tracing } = loadConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/` })
if (tracing.export === undefined) throw new Error('No traces were asked for')
const traces = startTracing(tracing.export, log)
t.teardown(() => traces.shutdown())

const ok: Behaviour = () => ({ status: 200, body: {} })
const called = await startCalled(t, ok)
const gateway = new Outbound({ name: 'THEIR_URL', url: called.url, timeoutMs: 20_000, log })
t.teardown(() => gateway.close())

function charge (): Promise<number> {
  return gateway.ask({ kind: 'charge', method: 'PUT', path: '/charges/alice', body: '{}', read: ({ status }) => status }, callWithin(20_000))
}

/** @returns the id of the caller's trace */
async function inTrace (run: () => Promise<unknown>): Promise<string> {
  const span = tracer().startSpan('caller')
  await context.with(trace.setSpan(context.active(), span), run).finally(() => span.end())
  return span.spanContext().traceId
}

async function callsOf (id: string): Promise<Span[]> {
  await traces.flush(5_000)
  return collector.spans.filter(({ traceId, name }) => traceId === id && name !== 'caller')
}

t.test('each attempt of a call is a span in its caller\'s trace, and the other side gets that span', async t => {
  called.behave(() => called.received.length === 1 ? { status: 500 } : { status: 200, body: {} })
  const spans = await callsOf(await inTrace(charge))
  const [host, port] = called.url.replace('http://', '').split(':')
  const attributes = { 'http.request.method': 'PUT', 'server.address': host, 'server.port': Number(port) }
  t.match(spans, [
    { name: 'PUT charge', kind: 'client', isError: true, attributes: { ...attributes, 'http.response.status_code': 500, 'error.type': 'Unclear' } },
    { name: 'PUT charge', kind: 'client', isError: false, attributes: { ...attributes, 'http.response.status_code': 200, 'http.request.resend_count': 1 } }
  ])
  t.same(called.received.map(({ headers }) => headers.traceparent), spans.map(({ traceId, spanId }) => `00-${traceId}-${spanId}-01`))
  t.notMatch(JSON.stringify(spans), 'alice', 'no span has the path, which may name a customer')
})

t.test('a call that waits for the end of another one is in its own caller\'s trace', async t => {
  const before = called.received.length
  const held: ServerResponse[] = []
  called.behave((_request, response) => { held.push(response) })
  const running = Array.from({ length: 64 }, () => inTrace(charge))
  await called.reached(before + 64)
  called.behave(ok)
  const waiting = inTrace(charge)
  for (const response of held) response.end('{}')
  await Promise.all(running)
  const id = await waiting
  t.equal((await callsOf(id)).length, 1)
  t.match(called.received.at(-1)?.headers.traceparent, new RegExp(`^00-${id}-`))
})

t.test('a call outside of a recorded trace has no span', async t => {
  await traces.flush(5_000)
  const before = collector.spans.length
  t.equal(await charge(), 200)
  await traces.flush(5_000)
  t.equal(collector.spans.length, before)
})
