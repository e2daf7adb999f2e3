import { once } from 'node:events'
import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

async function open (program: Program): Promise<WebSocket> {
  const socket = new WebSocket(`${program.url.replace('http', 'ws')}/echo`)
  await once(socket, 'open')
  return socket
}

t.test('a WebSocket is served during the lame duck, then gets its last messages and 1001', async t => {
  const program = await start(t, 'websocket', { hold: true })
  const socket = await open(program)
  const closed = once(socket, 'close') as Promise<[CloseEvent]>
  program.kill('SIGTERM')
  await program.line('draining')
  const message = once(socket, 'message') as Promise<[{ data: string }]>
  socket.send('last orders')
  t.equal((await message)[0].data, 'last orders')
  const later = await open(program)
  const closedLater = once(later, 'close') as Promise<[CloseEvent]>
  program.tell('close')
  for (const [event] of [await closed, await closedLater]) t.match(event, { code: 1001, reason: 'the service is stopping', wasClean: true })
  t.same(await program.ended, [0, null])
  t.match(program.report.connections, { open: 0, closed: { upgraded: 2 } })
})

t.test('a WebSocket that does not answer the close is cut, and the stop still waits for other work', async t => {
  const program = await start(t, 'websocket')
  const deaf = await connect(t, program.url)
  deaf.get('/echo', 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n')
  await program.hears('connected')
  const answer = fetch(`${program.url}/work`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await deaf.ended
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.match(program.report, { requests: { abandoned: { count: 0 } }, connections: { closed: { upgraded: 1 } } })
})

t.test('a WebSocket of a server that was attached after listen() ends with the stop, and is sent no HTTP', async t => {
  const program = await start(t, 'attached')
  await program.hears('attached')
  const handshake = 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  const clients = await Promise.all(['silent', 'talking'].map(async () => {
    const client = await connect(t, program.url)
    client.get('/', handshake)
    await client.receives('hello')
    return client
  }))
  // A frame of one letter, masked with zeros.
  clients[1]?.socket.write(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0x61]))
  await clients[1]?.receives('echo')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  for (const client of clients) {
    await client.ended
    t.notMatch(client.received, /HTTP\/1\.1 408/)
  }
  t.match(program.report, { exitCode: 0, connections: { open: 0, closed: { upgraded: 2, incomplete: 0 } } })
  t.ok(program.report.elapsed < 2_500, `in ${program.report.elapsed} ms`)
})
