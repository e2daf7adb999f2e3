import { join } from 'node:path'
import t from 'tap'
import { request } from 'undici'
import { createTestDatabase } from '../postgres.ts'
import { startService, type Service } from '../service.ts'
import { startCollector } from './collector.ts'

const { url: DATABASE_URL } = await createTestDatabase(t)
const settings = { DATABASE_URL, NODE_OPTIONS: `--import=${join(import.meta.dirname, 'loaded.ts')}` }
const collector = await startCollector(t)
collector.hang()
const [silent, hung, alone] = await Promise.all([
  startService(t, settings),
  startService(t, { ...settings, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }),
  startService(t, { ...settings, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })
])
const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'

/** One request, then SIGTERM. */
async function live (service: Service): Promise<{ code: number | null, logged: Array<Record<string, unknown>>, loaded: string }> {
  const answer = await request(`${service.url}/products`, { headers: { authorization: `Bearer ${service.token('alice')}`, traceparent: `00-${traceId}-00f067aa0ba902b7-01` } })
  await answer.body.dump()
  await service.line(/"request completed"/)
  service.child.kill('SIGTERM')
  const [code] = await service.exited
  const logged = service.lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line) as Record<string, unknown>)
  return { code, logged, loaded: service.lines.findLast(line => line.startsWith('loaded ')) ?? '' }
}

t.test('a process without an endpoint for traces loads no module of the SDK, and logs the trace id of a caller all the same', async t => {
  const { code, logged, loaded } = await live(silent)
  t.equal(code, 0)
  t.notMatch(loaded, /@opentelemetry\/(?!api\b)|tracing\/start/)
  t.match(loaded, /tracing\/trace-context/, 'a loaded module would be seen')
  t.match(logged.find(({ msg }) => msg === 'request completed'), { trace_id: traceId })
})

t.test('a collector that hangs delays a stop by less than the time of a hook, and does not change its exit code', async t => {
  const { code, logged, loaded } = await live(hung)
  t.equal(code, 0)
  t.match(collector.heads, [{ path: '/v1/traces' }], 'it got one request')
  const last = logged.at(-1)
  t.match(last, { drain: { exitCode: 0 } }, 'the report is the last line')
  t.match((last?.drain as { hooks?: Array<{ name: string }> } | undefined)?.hooks?.find(({ name }) => name === 'onReport'), { outcome: 'done' })
  t.match(loaded, /@opentelemetry\/sdk-trace .*tracing\/start/)
})

t.test('a collector that is down is logged once, and has no other effect', async t => {
  const { code, logged } = await live(alone)
  t.equal(code, 0)
  t.match(logged.filter(({ msg }) => /collector/i.test(String(msg))), [{ level: 40, msg: /^The collector takes no spans/ }])
  t.strictSame(logged.filter(({ level }) => Number(level) > 40), [])
})
