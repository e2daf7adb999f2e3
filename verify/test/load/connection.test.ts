import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Connection } from '../../load/connection.ts'
import type { Request } from '../../target.ts'
import { answer, listen } from './toy-service.ts'

const request: Request = { method: 'POST', path: '/', headers: { 'content-type': 'application/json' }, body: '{"a":"body of a request"}' }
const long = 60_000

function connect (t: Test, url: string, timeoutMs = long): Connection {
  const connection = new Connection(url, timeoutMs)
  t.teardown(() => connection.close())
  return connection
}

/** A server that calls this for each connection that has sent something. */
async function listenRaw (t: Test, react: (socket: Socket) => void): Promise<{ url: string, reactions: () => number, close: () => Promise<unknown> }> {
  let reactions = 0
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('data', () => {
      reactions++
      react(socket)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy()
    if (server.listening) await once(server.close(), 'close')
  }
  t.teardown(close)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, reactions: () => reactions, close }
}

t.test('a client reads a whole answer', async t => {
  const { url } = await listen(t, (_, response) => answer(response, 201, { id: 'é' }))
  t.match(await connect(t, url).send(request), { answer: { status: 201, headers: { 'content-type': 'application/json' }, body: '{"id":"é"}' } })
})

t.test('an early hint is not the answer', async t => {
  const { url } = await listen(t, (_, response) => {
    response.writeEarlyHints({ link: '</style>; rel=preload' })
    answer(response, 201, {})
  })
  t.match(await connect(t, url).send(request), { answer: { status: 201 } })
})

t.test('if nothing listens, the outcome says that nothing was sent', async t => {
  const { url, close } = await listenRaw(t, () => {})
  await close()
  t.same(await connect(t, url).send(request), { error: 'ECONNREFUSED', sent: false })
})

t.test('a reset after the request was sent is recorded, and nothing is sent again', async t => {
  for (const method of ['POST', 'GET'] as const) {
    const { url, reactions } = await listenRaw(t, socket => socket.resetAndDestroy())
    t.same(await connect(t, url).send({ method, path: '/', headers: {} }), { error: 'ECONNRESET', sent: true })
    t.equal(reactions(), 1)
  }
})

t.test('an orderly end after the request was sent is recorded as closed', async t => {
  const { url } = await listenRaw(t, socket => socket.end())
  t.same(await connect(t, url).send(request), { error: 'UND_ERR_SOCKET', sent: true })
})

t.test('a cut answer has its status, and no more', async t => {
  const { url } = await listenRaw(t, socket => socket.end('HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\n{"id"'))
  t.match(await connect(t, url).send(request), { error: String, sent: true, status: 201 })
})

t.test('a chunked answer without its last chunk counts as cut', async t => {
  const { url } = await listenRaw(t, socket => socket.end('HTTP/1.1 201 Created\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n'))
  t.match(await connect(t, url).send(request), { error: String, sent: true, status: 201 })
})

t.test('a request without an answer in time is given up, and the next one has a working connection', async t => {
  let silent = true
  const { url } = await listen(t, (_, response) => {
    if (!silent) answer(response, 200, {})
    silent = false
  })
  const connection = connect(t, url, 50)
  t.same(await connection.send(request), { error: 'timeout', sent: true })
  t.match(await connection.send(request), { answer: { status: 200 } })
})

t.test('a request whose answer does not end in time is given up', async t => {
  const { url } = await listen(t, (_, response) => { response.writeHead(201).write('{') })
  t.same(await connect(t, url, 50).send(request), { error: 'timeout', sent: true, status: 201 })
})

t.test('a client that hangs up has sent its whole request, once', async t => {
  const seen: Array<Promise<string>> = []
  const left = Promise.withResolvers<void>()
  const { url } = await listen(t, (incoming, response) => {
    seen.push(textOf(incoming))
    response.once('close', left.resolve)
  })
  t.same(await connect(t, url).send(request, { hangUpAfter: 0 }), { error: 'hang-up', sent: true })
  await left.promise
  t.same(await Promise.all(seen), [request.body])
})

t.test('a client that gets its answer before it would hang up stays', async t => {
  const { url } = await listen(t, (_, response) => answer(response, 200, {}))
  t.match(await connect(t, url).send(request, { hangUpAfter: long }), { answer: { status: 200 } })
})

t.test('a slow body is sent in two halves, and arrives in whole', async t => {
  const chunks: string[] = []
  const { url } = await listen(t, async (incoming, response) => {
    for await (const chunk of incoming) chunks.push(String(chunk))
    answer(response, 200, incoming.headers)
  })
  const ending = await connect(t, url).send({ ...request, body: '{"ünïcode":1}' }, { bodyPauseMs: 50 })
  t.same(chunks.length, 2)
  t.same(chunks.join(''), '{"ünïcode":1}')
  t.match(ending, { answer: { body: /"content-length":"15"/ } })
})

t.test('a client keeps its connection, and replaces one that the service has closed while idle', async t => {
  const ports = new Set<number | undefined>()
  let socket: Socket | undefined
  const { url } = await listen(t, (incoming, response) => {
    socket = incoming.socket
    ports.add(socket.remotePort)
    answer(response, 200, {})
  })
  const connection = connect(t, url)
  await connection.send(request)
  await connection.send(request)
  t.equal(ports.size, 1)
  const closed = once(socket as Socket, 'close')
  socket?.end()
  await closed
  t.match(await connection.send(request), { answer: { status: 200 } })
  t.equal(ports.size, 2)
})

async function textOf (incoming: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of incoming) text += String(chunk)
  return text
}
