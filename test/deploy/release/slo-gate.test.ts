import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { startPrometheus, vector, type Answer } from './prometheus.ts'

const program = join(import.meta.dirname, '../../../deploy/release/slo-gate.ts')

t.test('a service within its budget may be released', async t => {
  const { url, queries } = await startPrometheus(t, () => vector('0.25'))
  const { code, output } = await gate(url)
  t.equal(code, 0, output)
  t.match(output, /75\.0 % of the error budget of 30d is left/)
  t.match(output, /In the last 5m it burned at 0\.3 times/)
  t.match(queries, [
    '(sum(rate(http_server_request_duration_seconds_count{route!~"/livez|/readyz|/startupz", status=~"5.."}[30d])) or vector(0)) / sum(rate(http_server_request_duration_seconds_count{route!~"/livez|/readyz|/startupz"}[30d]))',
    '[5m]'
  ])
})

t.test('a service that has burnt its budget may not', async t => {
  const { url } = await startPrometheus(t, query => vector(query.includes('[30d]') ? '0.95' : '0'))
  const { code, output } = await gate(url)
  t.equal(code, 1)
  t.match(output, /refused {2}5\.0 % of the error budget/)
  t.match(output, /Nothing was released/)
})

t.test('a service that burns its budget at this moment may not, with all of it left', async t => {
  const { url } = await startPrometheus(t, query => vector(query.includes('[5m]') ? '14.4' : '0'))
  const { code, output } = await gate(url)
  t.equal(code, 1)
  t.match(output, /refused {2}In the last 5m it burned at 14\.4 times/)
})

t.test('what is no answer is no permission', async t => {
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
    const { url } = await startPrometheus(t, () => answer)
    const { code, output } = await gate(url)
    t.equal(code, 2, name)
    t.match(output, told)
    t.match(output, /No answer is no permission: nothing was released/)
  }
})

t.test('a Prometheus that cannot be reached is no permission', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  const { code, output } = await gate(`http://127.0.0.1:${port}`)
  t.equal(code, 2)
  t.match(output, /did not answer: .*ECONNREFUSED/)
})

t.test('wrong settings are listed at once, and are no permission', async t => {
  const { code, output } = await gate('', { SLO_OBJECTIVE: '99.9', SLO_WINDOW: 'a month', SLO_BUDGET_MIN: 'some' })
  t.equal(code, 2)
  for (const name of ['PROMETHEUS_URL', 'SLO_OBJECTIVE', 'SLO_WINDOW', 'SLO_BUDGET_MIN']) t.match(output, name)
})

t.test('it asks with the token, for the series and by the objective that it is given', async t => {
  const { url, queries, tokens } = await startPrometheus(t, () => vector('0'))
  await gate(`${url}/`, { PROMETHEUS_TOKEN: 'for the gate', SLO_SELECTOR: 'namespace="production"', SLO_OBJECTIVE: '0.99', SLO_WINDOW: '7d' })
  t.match(queries[0], /namespace="production"\}\[7d\]\)\)\) \/ \(1 - 0\.99\)$/)
  t.strictSame(tokens, ['Bearer for the gate', 'Bearer for the gate'])
})

t.test('a reason overrides it, and is written down', async t => {
  const { code, output } = await gate('', { SLO_OVERRIDE: 'this release mends what burns' })
  t.equal(code, 0)
  t.match(output, /this release mends what burns/)
})

async function gate (url: string, env: Record<string, string> = {}): Promise<{ code: number | string, output: string }> {
  return await new Promise(resolve => {
    execFile(process.execPath, [program], { env: { PROMETHEUS_URL: url, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, output: stdout + stderr })
    })
  })
}
