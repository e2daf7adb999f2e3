import t from 'tap'
import { connect } from './connect.ts'
import type { Client } from './connect.ts'
import { start } from './start.ts'

t.test('while closing, a later request on an open connection is refused with a not-started answer', async t => {
  const program = await start(t, 'admission', { refusal: { type: 'https://example.com/problems/not-started', title: 'Not started', retryAfter: 3 } })
  const clients = await Promise.all(['/', '/serve', '/refuse'].map(() => connect(t, program.url)))
  const [client, serve, refuse] = clients as [Client, Client, Client]
  for (const client of clients) client.get('/held')
  await program.hears('begun', 3)
  program.kill('SIGTERM')
  await program.line('closing')
  client.get('/')
  serve.get('/serve')
  refuse.get('/refuse')
  await program.line('incoming request', 6)
  program.tell('finish')
  await Promise.all(clients.map(({ ended }) => ended))
  t.same(client.responses, ['200 keep-alive', '503 close'])
  t.same(serve.responses, ['200 keep-alive', '200 close'])
  t.same(refuse.responses, ['200 keep-alive', '503 close'])
  const [head, body] = client.received.split('HTTP/1.1')[2]?.split('\r\n\r\n') ?? []
  t.match(head, /^content-type: application\/problem\+json/im)
  t.match(head, /^retry-after: 3\r$/im)
  t.match(JSON.parse(body ?? ''), { type: 'https://example.com/problems/not-started', title: 'Not started', status: 503, instance: /\S/ })
  t.same(await program.ended, [0, null])
  t.notOk(program.said.includes('served'))
  t.match(program.report.requests, { completed: { count: 4 }, refused: { count: 2 } })
})

t.test('while closing, the first request of a connection is served, unless its route refuses', async t => {
  const program = await start(t, 'admission')
  const answer = fetch(`${program.url}/held`)
  await program.hears('begun')
  const [served, refused] = [await connect(t, program.url), await connect(t, program.url)]
  for (const client of [served, refused]) client.send('GET /')
  await new Promise(resolve => setTimeout(resolve, 50))
  program.kill('SIGTERM')
  await program.line('closing')
  served.send(' HTTP/1.1\r\nHost: a\r\n\r\n')
  refused.send('refuse HTTP/1.1\r\nHost: a\r\n\r\n')
  await Promise.all([served.ended, refused.ended])
  t.same(served.responses, ['200 close'])
  t.same(refused.responses, ['503 close'])
  t.match(refused.received, /urn:fastify-drain:not-started/)
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
})
