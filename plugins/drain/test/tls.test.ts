import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { Agent, get } from 'node:https'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

const trusting = { rejectUnauthorized: false }

t.test('over TLS, work is finished, and connections in every state end', async (t) => {
  const program = await start(t, 'tls')
  const { port } = new URL(program.url)
  const agent = new Agent({ keepAlive: true, ...trusting })
  t.teardown(() => agent.destroy())

  const [idle] = await once(get(program.url, { agent }), 'response') as [IncomingMessage]
  idle.resume()
  await once(idle, 'end')
  const unused = connectTls(Number(port), '127.0.0.1', trusting)
  t.teardown(() => unused.destroy())
  unused.resume()
  await once(unused, 'secureConnect')
  await connect(t, program.url)
  const work = once(get(`${program.url}/work`, trusting), 'response')
  await program.hears('begun')
  await new Promise((resolve) => setTimeout(resolve, 150))

  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  const [answer] = await work as [IncomingMessage]
  t.match([answer.statusCode, answer.headers.connection], [200, 'close'])
  answer.resume()
  t.same(await program.ended, [0, null])
  t.match(program.report.connections, { open: 0, closed: { idle: 1, unused: 1, normally: 1, aborted: 0 } })
  t.ok(program.report.elapsed >= 1_000 && program.report.elapsed < 2_500, `one has not ended its handshake: ${program.report.elapsed} ms`)
})

t.test('over TLS, HTTP/2 is drained as well', async (t) => {
  process.env['HTTP2'] = 'yes'
  t.teardown(() => { delete process.env['HTTP2'] })
  const program = await start(t, 'tls')
  const session = connectHttp2(program.url, trusting)
  const stream = session.request({ ':path': '/work' })
  stream.resume()
  const response = once(stream, 'response')
  await program.hears('begun')
  const goaway = once(session, 'goaway')
  program.kill('SIGTERM')
  await goaway
  program.tell('finish')
  t.match(await response, [{ ':status': 200 }])
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { completed: { count: 1 } })
})
