import { request } from 'undici'
import { loadConfig } from '../../config.ts'
import { startApp } from '../../test/app.ts'
import { startCollector, type Span } from '../../test/tracing/collector.ts'
import { startTracing } from '../../tracing/start.ts'

// Draws the trace of a stop, from what a collector got: orders under way, and one handler that never ends. docs/observability.md has
// what it printed.

const width = 60
const ends: Array<() => unknown> = []
const t = { teardown (end: () => unknown) { ends.unshift(end) } }
try {
  const collector = await startCollector(t)
  const { tracing } = loadConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url })
  if (tracing.export === undefined) throw new Error('There is no end point.')
  const traces = startTracing(tracing.export, { info () {}, warn: (details, message) => console.error(message, details) })
  t.teardown(() => traces.shutdown())
  const handlerRuns = Promise.withResolvers<void>()
  const { app, url, ask, token } = await startApp(t, {
    traces,
    settings: { DRAIN_MIN_MS: '300', DRAIN_QUIET_MS: '100', DRAIN_MAX_MS: '600' },
    drain: { deadline: 2_000 },
    extend: app => {
      app.get('/never-ends', async () => {
        handlerRuns.resolve()
        await new Promise(() => {})
      })
    }
  })
  const abandoned = request(`${url}/never-ends`).catch(() => {})
  await handlerRuns.promise
  const place = () => ask('POST', '/orders', { token: token('alice'), headers: { 'idempotency-key': crypto.randomUUID() }, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] } })
  const orders = Array.from({ length: 20 }, place)
  await Promise.all([app.drain.start('SIGTERM'), abandoned, ...orders])

  const drain = collector.spans.find(({ name }) => name === 'drain')
  if (drain === undefined) throw new Error('The collector got no trace of the stop.')
  console.log(drawing(drain, collector.spans).join('\n'))
} finally {
  for (const end of ends) await end()
}

function drawing (drain: Span, spans: Span[]): string[] {
  const rows: Array<[label: string, span: Span]> = []
  add(drain, '')
  for (const { spanId } of drain.links) {
    const linked = spans.find(span => span.spanId === spanId)
    if (linked !== undefined) rows.push([`⤷ ${linked.name}: ${String(linked.attributes['error.type'])}`, linked])
  }
  const label = Math.max(...rows.map(([label]) => label.length))
  return [
    `trace ${drain.traceId}, exit code ${String(drain.attributes['drain.exit_code'])}`,
    '',
    ...rows.map(([name, span]) => `${name.padEnd(label)}  ${bar(span)}  ${Math.round(span.durationMs)} ms`),
    '',
    ...drain.events.map(({ name, attributes }) => `  event: ${[name, ...Object.values(attributes)].join(' ')}`)
  ]

  function add (span: Span, indent: string): void {
    rows.push([`${indent}${span.name}`, span])
    for (const child of spans.filter(({ parentSpanId }) => parentSpanId === span.spanId).sort((a, b) => a.startMs - b.startMs)) add(child, `${indent}  `)
  }

  function bar ({ startMs, durationMs }: Span): string {
    const at = (ms: number): number => Math.min(width - 1, Math.max(0, Math.round((ms - drain.startMs) / drain.durationMs * width)))
    const from = at(startMs)
    const length = Math.max(1, at(startMs + durationMs) - from)
    return (' '.repeat(from) + (startMs < drain.startMs ? '◂' + '━'.repeat(length - 1) : '━'.repeat(length))).padEnd(width)
  }
}
