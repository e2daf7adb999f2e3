import { once } from 'node:events'
import { connect } from 'node:http2'
import type { ClientHttp2Session } from 'node:http2'
import t from 'tap'
import { connect as connectTcp } from './connect.ts'
import { start } from './start.ts'

async function ask (session: ClientHttp2Session, path: string): Promise<number> {
  const stream = session.request({ ':path': path })
  stream.resume()
  const [headers] = await once(stream, 'response') as [{ ':status': number }]
  await once(stream, 'close')
  return headers[':status']
}

t.test('over HTTP/2, open streams are answered and idle sessions get GOAWAY', async t => {
  const program = await start(t, 'http2')
  const [busy, idle, gone] = [connect(program.url), connect(program.url), connect(program.url)]
  t.equal(await ask(idle, '/'), 200)
  const answer = ask(busy, '/work')
  const lost = gone.request({ ':path': '/work' })
  lost.on('error', () => {})
  await program.hears('begun', 2)
  gone.destroy()
  const goaways = [once(busy, 'goaway'), once(idle, 'goaway')]
  program.kill('SIGTERM')
  for (const goaway of goaways) t.equal((await goaway)[0], 0, 'no error')
  program.tell('finish')
  t.equal(await answer, 200)
  t.same(await program.ended, [0, null])
  t.same(program.said.slice(-3), ['finished', 'finished', 'resource closed'])
  t.match(program.report.requests, { completed: { count: 2 }, abandoned: { count: 0 } })
  t.ok(program.report.elapsed < 3_000)
})

t.test('during the lame duck an HTTP/2 client gets GOAWAY, and the requests it still sends are served', async t => {
  const program = await start(t, 'http2', { hold: true })
  const session = connect(program.url)
  t.equal(await ask(session, '/'), 200)
  const answer = ask(session, '/work')
  await program.hears('begun')
  const goaway = once(session, 'goaway')
  program.kill('SIGTERM')
  await program.line('draining')
  await goaway
  t.equal(program.lines.some(({ msg }) => msg === 'closing'), false, 'before the closing phase')
  const fresh = connect(program.url)
  t.equal(await ask(fresh, '/'), 200)
  program.tell('close')
  program.tell('finish')
  t.equal(await answer, 200)
  t.same(await program.ended, [0, null])
})

t.test('an idle session whose client does not react to GOAWAY is ended at once', async t => {
  const program = await start(t, 'http2')
  const client = await connectTcp(t, program.url)
  // The preface, and an empty SETTINGS frame.
  client.send('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0')
  await once(client.socket, 'data')
  program.kill('SIGTERM')
  t.equal(await client.ended, 'end')
  t.same(await program.ended, [0, null])
  t.match(program.report.connections, { open: 0, closed: { idle: 1 } })
  t.ok(program.report.elapsed < 900, `in ${program.report.elapsed} ms`)
})
