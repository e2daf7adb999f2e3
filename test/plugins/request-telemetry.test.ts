import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { request } from 'undici'
import { startApp } from '../app.ts'
import { valueOf } from '../exposition.ts'
import type { EndedRequest } from '../../plugins/request-telemetry.ts'

interface Line { msg: string, reqId: string, method: string, route?: string, status: number, errorType?: string, durationMs: number }

const lines: Line[] = []
const ended: EndedRequest[] = []
let reported = Promise.withResolvers<void>()
let handlerRuns = Promise.withResolvers<void>()
const { app, url, ask, token } = await startApp(t, {
  log: { write: (line: string) => { lines.push(JSON.parse(line)) } },
  drain: { deadline: 1_000 },
  extend: app => {
    app.requests.onEnd(one => {
      ended.push(one)
      reported.resolve()
    })
    app.get('/broken', async () => { throw new Error('broken on purpose') })
    app.get('/late', { config: { drain: 'refuse' } }, async () => 'in time')
    app.get('/endless', async () => {
      handlerRuns.resolve()
      await new Promise(() => {})
    })
  }
})

/** What is reported of the request that `send` makes, when it has ended. */
async function endOf (send: () => unknown): Promise<EndedRequest & { line: Line | undefined }> {
  reported = Promise.withResolvers()
  await send()
  await reported.promise
  const last = ended.at(-1)
  if (last === undefined) throw new Error('No request was reported.')
  return { ...last, line: lines.findLast(({ reqId, msg }) => reqId === last.request.id && msg.startsWith('request ') && msg !== 'request failed' && msg !== 'request refused') }
}

async function raw (head: string): Promise<void> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(head)
  socket.resume()
  await once(socket, 'close')
}

t.test('the metric and the log agree on a request, whatever became of it', async t => {
  const cases = [
    { what: 'an answer', send: () => ask('GET', '/products', { token: token('alice') }), is: { method: 'GET', route: '/products', status: 200 } },
    { what: 'a refusal', send: () => ask('GET', '/orders'), is: { method: 'GET', route: '/orders', status: 401, problem: 'unauthenticated' } },
    { what: 'no route', send: () => ask('GET', '/nothing?here'), is: { method: 'GET', status: 404, problem: 'not-found' } },
    { what: 'a URL that reaches no hook', send: () => ask('GET', '/%zz'), is: { method: 'GET', status: 400, problem: 'invalid-request' } },
    { what: 'a method that only the parser knows', send: () => raw('M-SEARCH /products HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n'), is: { method: '_OTHER', status: 404, problem: 'not-found' } },
    { what: 'a failure', send: () => ask('GET', '/broken'), is: { method: 'GET', route: '/broken', status: 500, problem: 'internal-error', errorType: 'internal-error' } },
    {
      what: 'a client that goes',
      send: async () => {
        const gone = new AbortController()
        const answer = request(`${url}/endless`, { signal: gone.signal }).catch(() => {})
        await handlerRuns.promise
        gone.abort()
        await answer
      },
      is: { method: 'GET', route: '/endless', status: 499, errorType: 'client-closed' }
    }
  ]
  for (const { what, send, is } of cases) {
    const { route, status, problem, errorType, method, durationMs, line } = await endOf(send)
    t.match({ method, route, status, problem, errorType }, { route: undefined, problem: undefined, errorType: undefined, ...is }, what)
    t.match(line, { status, route, errorType, durationMs: Math.round(durationMs * 10) / 10 }, `${what}: the line`)
    const labels = { http_request_method: method, http_route: route ?? '', http_response_status_code: String(status), error_type: errorType ?? '', url_scheme: 'http' }
    t.equal(valueOf(await app.metrics.render(), 'http_server_request_duration_seconds_count', labels), 1, `${what}: the metric`)
  }
})

t.test('an event stream is timed apart, and a refused one is a request like any other', async t => {
  await endOf(() => ask('GET', '/orders/stream'))
  await endOf(async () => {
    const { body } = await request(`${url}/orders/stream`, { headers: { authorization: `Bearer ${token('alice')}` } })
    body.on('error', () => {})
    body.destroy()
  })
  const metrics = await app.metrics.render()
  t.equal(valueOf(metrics, 'http_server_request_duration_seconds_count', { http_route: '/orders/stream', http_response_status_code: '401' }), 1)
  t.equal(valueOf(metrics, 'http_server_request_duration_seconds_count', { http_route: '/orders/stream', http_response_status_code: '499' }), undefined)
  t.equal(valueOf(metrics, 'order_stream_duration_seconds_count'), 1)
})

t.test('a request that a stop refuses or abandons counts as an error of the service, and not as a client that has gone', async t => {
  handlerRuns = Promise.withResolvers()
  const abandoned = request(`${url}/endless`).catch(() => {})
  await handlerRuns.promise
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.write('GET /late HTTP/1.1\r\nHost: h\r\n')
  app.drain.on('closing', () => { socket.write('\r\n') })
  socket.resume()
  await Promise.all([app.drain.start('test'), abandoned, once(socket, 'close')])
  const late = ended.find(({ route }) => route === '/late')
  t.match(late, { status: 503, problem: 'not-started', errorType: 'not-started', isWhole: true })
  t.match(ended.at(-1), { route: '/endless', status: 503, errorType: 'abandoned', isWhole: false })
  t.match(lines.findLast(({ msg }) => msg.startsWith('request abandoned')), { route: '/endless', status: 503, errorType: 'abandoned' })
})
