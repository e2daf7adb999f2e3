import { once } from 'node:events'
import { connect } from 'node:net'
import { pino } from 'pino'
import t from 'tap'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'
import { startApp } from '../app.ts'
import type { AddressInfo } from 'node:net'

const { app, url, token, sql, ask } = await startApp(t)
const ops = await buildOps({ app, config: loadConfig({}), logger: pino({ level: 'silent' }) })
t.teardown(() => ops.close())
await ops.listen({ host: '127.0.0.1', port: 0 })

const order = JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
const owner = `Host: a\r\nAuthorization: Bearer ${token('alice')}\r\n`
const place = (headers: string): string => `POST /orders HTTP/1.1\r\n${owner}Idempotency-Key: wire\r\nContent-Type: application/json\r\nContent-Length: ${order.length}\r\n${headers}\r\n${order}`
const get = (headers: string): string => `GET /livez HTTP/1.1\r\n${headers}\r\n`

/** Each is refused with a problem, and nothing is stored. */
const refused: Array<[what: string, bytes: string, status: number, says: RegExp]> = [
  ['an expectation', place('Expect: 200-ok\r\n'), 417, /only the expectation 100-continue/],
  ['an expectation without a body', get('Host: a\r\nExpect: x\r\n'), 417, /only the expectation/],
  ['two Hosts', get('Host: a\r\nHost: b\r\n'), 400, /more than one host/],
  ['the same Host twice', get('Host: a\r\nhOST: a\r\n'), 400, /more than one host/],
  ['no Host', get(''), 400, /no Host/],
  ['a Host with a path', get('Host: a/b\r\n'), 400, /Host is not a name/],
  ['a Host with a user', get('Host: me@a\r\n'), 400, /Host is not a name/],
  ['two hosts in one Host', get('Host: a, b\r\n'), 400, /Host is not a name/],
  ['two tokens', `GET /orders HTTP/1.1\r\n${owner}Authorization: Bearer x\r\n\r\n`, 400, /more than one authorization/],
  ['two media types', place('Content-Type: text/plain\r\n'), 400, /more than one content-type/],
  ['a body with a coding', place('Content-Encoding: gzip\r\n'), 415, /coded as gzip/],
  ['an unknown coding', place('Content-Encoding: x\r\n'), 415, /coded as x/],
  ['two codings', place('Content-Encoding: identity, br\r\n'), 415, /coded as identity, br/],
  ['a coding on a route without a body', `POST /orders/00000000-0000-0000-0000-000000000000/cancel HTTP/1.1\r\n${owner}Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n`, 415, /coded as gzip/],
  ['a coding on a read', `GET /orders HTTP/1.1\r\n${owner}Content-Encoding: zstd\r\n\r\n`, 415, /coded as zstd/],
  ['CONNECT', 'CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n', 400, /not a proxy/],
  ['HTTP/2 without an upgrade', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, /not HTTP/],
  ['HTTP/9.9', 'GET /livez HTTP/9.9\r\nHost: a\r\n\r\n', 400, /not HTTP/],
  ['HTTP/0.9', 'GET /livez\r\n\r\n', 400, /no Host/],
  ['a URL above 16 KiB', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431, /head of the request is too large/],
  ['a URL that cannot be decoded', 'GET /%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n', 400, /./],
  ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n', 404, /./],
  ['an absolute URL without a route', 'GET http://a/nothing HTTP/1.1\r\nHost: a\r\n\r\n', 404, /./],
  ['a TLS greeting', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, /not HTTP/],
  ['a length and chunks', place('Transfer-Encoding: chunked\r\n'), 400, /not HTTP/],
  ['a folded line', get('Host: a\r\nX: a\r\n b\r\n'), 400, /not HTTP/]
]

for (const [what, bytes, status, says] of refused) {
  t.test(`${what} is refused with a problem, on the API and on the ops port`, async t => {
    for (const [where, port] of [['API', Number(new URL(url).port)], ['ops', (ops.server.address() as AddressInfo).port]] as const) {
      if (where === 'ops' && bytes.includes('/orders')) continue
      // The ops port does not accept the host name "a".
      const { head, body } = await answerTo(port, where === 'ops' ? bytes.replaceAll(/(Host: )a(?=\r)/g, '$1127.0.0.1') : bytes)
      t.match(head, `HTTP/1.1 ${status} `, where)
      t.match(head, /^content-type: application\/problem\+json/im, where)
      t.match(head, /^x-content-type-options: nosniff/im, where)
      t.match(body, { status, title: /\S/, detail: says, instance: /\S/ }, where)
    }
    t.equal((await sql.query('SELECT FROM orders')).rowCount, 0, 'nothing was stored')
  })
}

t.test('valid heads are served: 100-continue, HTTP/1.0 without a Host, an empty Host, the coding identity', async t => {
  const port = Number(new URL(url).port)
  t.match((await answerTo(port, place('Expect: 100-continue\r\n'))).text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 201 /)
  t.match((await answerTo(port, place('Content-Encoding: Identity\r\n'))).head, 'HTTP/1.1 201 ')
  for (const bytes of ['GET /livez HTTP/1.0\r\n\r\n', get('Host:\r\n'), get('Host: [::1]:3000\r\n'), get('Host: xn--bcher-kva.example:80\r\n'), 'GET http://a/livez HTTP/1.1\r\nHost: a\r\n\r\n']) {
    t.match((await answerTo(port, bytes)).head, 'HTTP/1.1 200 ', bytes)
  }
})

t.test('a request that is refused for its head is counted like any other', async t => {
  await answerTo(Number(new URL(url).port), get('Host: a\r\nExpect: y\r\n'))
  t.match(await app.metrics.render(), /^http_server_request_duration_seconds_count\{[^}]*http_response_status_code="417"[^}]*\} [1-9]/m)
  t.equal((await ask('GET', '/livez')).status, 200)
})

async function answerTo (port: number, bytes: string) {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  socket.write(Buffer.from(bytes, 'latin1'))
  let text = ''
  let answer = parsed(text)
  for await (const chunk of socket) {
    text += String(chunk)
    answer = parsed(text)
    if (answer.isWhole) break
  }
  return { ...answer, text }
}

/** Parses the last answer, because a provisional one comes before it. */
function parsed (text: string) {
  const [head = '', body = ''] = text.replace(/^HTTP\/1\.1 1\d\d .*?\r\n\r\n/s, '').split('\r\n\r\n')
  const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? NaN)
  const isWhole = Buffer.byteLength(body) === length
  return { head, isWhole, body: isWhole && body !== '' ? JSON.parse(body) as object : {} }
}
