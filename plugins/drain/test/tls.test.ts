import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { Agent, get } from 'node:https'
import { connect as connectUnix } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { Client, connect } from './connect.ts'
import { start } from './start.ts'

const trusting = { rejectUnauthorized: false }

t.test('over TLS, requests finish and connections in every state end', async t => {
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
  await new Promise(resolve => setTimeout(resolve, 150))

  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  const [answer] = await work as [IncomingMessage]
  t.match([answer.statusCode, answer.headers.connection], [200, 'close'])
  answer.resume()
  t.same(await program.ended, [0, null])
  t.match(program.report.connections, { open: 0, closed: { idle: 1, unused: 1, normally: 1, aborted: 0 } })
  t.ok(program.report.elapsed >= 1_000 && program.report.elapsed < 2_500, `a client had not ended its handshake: ${program.report.elapsed} ms`)
})

t.test('over TLS on a Unix socket, requests finish and every handshake that never completes is ended', async t => {
  // The path of testdir() is longer than a socket's path may be.
  const folder = await mkdtemp(join(tmpdir(), 'drain-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const path = join(folder, 'socket')
  const program = await start(t, 'tls', { socket: path }, 'nothing')
  await program.hears('listening')
  const mute = await Promise.all([1, 2, 3, 4].map(async () => {
    const socket = connectUnix(path)
    t.teardown(() => socket.destroy())
    await once(socket, 'connect')
    return new Client(socket)
  }))
  // This one sends less than a TLS record.
  mute[0]?.send('\x16\x03')
  const work = new Client(connectTls({ path, ...trusting }))
  work.get('/work')
  await program.hears('begun')
  const idle = new Client(connectTls({ path, ...trusting }))
  idle.get('/')
  await idle.receives('{}')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  for (const client of [...mute, work, idle]) t.equal(await client.ended, 'end')
  t.same(work.responses, ['200 close'])
  t.match(program.report, { exitCode: 0, requests: { completed: { count: 1 } }, connections: { open: 0, closed: { aborted: 0 } } })
  t.ok(program.report.elapsed < 2_500, `in ${program.report.elapsed} ms`)
})

t.test('over TLS, HTTP/2 is drained as well', async t => {
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
