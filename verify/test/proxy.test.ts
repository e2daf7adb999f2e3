import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Proxy } from '../proxy.ts'

/** A server that answers with its name and the received bytes. */
async function listen (t: Test, name: string) {
  const heard: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => {}).on('data', data => {
      heard.push(data.toString())
      server.emit('heard')
      socket.write(`${name}:${data.toString()}`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, heard, server, sockets }
}

async function listenProxied (t: Test) {
  const backend = await listen(t, 'a')
  const proxy = await Proxy.listen(backend.port)
  t.teardown(() => proxy.close())
  return { backend, proxy }
}

/** A client of the proxy. */
function client (t: Test, port: number) {
  const socket = connect(port, '127.0.0.1')
  const ended = new Promise<void>(resolve => socket.on('error', () => {}).once('close', () => resolve()))
  t.teardown(() => socket.destroy())
  const answer = async (): Promise<string> => (await once(socket, 'data') as [Buffer])[0].toString()
  return {
    socket,
    ended,
    say: (text: string) => socket.write(text),
    ask: async (text: string): Promise<string> => {
      socket.write(text)
      return await answer()
    }
  }
}

t.test('the proxy forwards both ways, and passes on the end of each side', async t => {
  const { backend, proxy } = await listenProxied(t)
  const one = client(t, proxy.port)
  t.equal(await one.ask('1'), 'a:1')
  t.equal(await one.ask('2'), 'a:2')
  for (const socket of backend.sockets) socket.end('bye')
  t.equal((await once(one.socket, 'data'))[0].toString(), 'bye')
  await one.ended

  const two = client(t, proxy.port)
  await two.ask('3')
  const [, second] = backend.sockets
  two.socket.end()
  await once(second as Socket, 'end')
})

t.test('the proxy disconnects a client if nothing listens behind it', async t => {
  const { backend, proxy } = await listenProxied(t)
  backend.server.close()
  await once(backend.server, 'close')
  await client(t, proxy.port).ended
})

t.test('a proxy switched to another server ends old connections and leads new ones there', async t => {
  const { proxy } = await listenProxied(t)
  const other = await listen(t, 'b')
  const old = client(t, proxy.port)
  await old.ask('1')
  proxy.switchTo(other.port)
  await old.ended
  t.equal(await client(t, proxy.port).ask('2'), 'b:2')
})

t.test('with answers cut the server gets the requests, and the connection ends when bytes pass again', async t => {
  const { backend, proxy } = await listenProxied(t)
  const one = client(t, proxy.port)
  const idle = client(t, proxy.port)
  await one.ask('1')
  await idle.ask('2')
  proxy.pass('cut-answers')
  const said: string[] = []
  one.socket.on('data', data => said.push(data.toString()))
  one.say('commit')
  await once(backend.server, 'heard')
  while (proxy.broken === 0) await new Promise(setImmediate)
  t.equal(proxy.broken, 1)
  proxy.pass('forward')
  await one.ended
  t.same(said, [])
  t.same(backend.heard, ['1', '2', 'commit'])
  t.equal(await idle.ask('3'), 'a:3', 'a client that lost nothing continues')
  t.equal(proxy.broken, 0)
})

t.test('in a black hole the server gets nothing either', async t => {
  const { backend, proxy } = await listenProxied(t)
  const one = client(t, proxy.port)
  await one.ask('1')
  proxy.pass('blackhole')
  one.say('2')
  while (proxy.broken === 0) await new Promise(setImmediate)
  proxy.pass('forward')
  await one.ended
  t.same(backend.heard, ['1'])
})

t.test('a refusing proxy disconnects connected and new clients', async t => {
  const { backend, proxy } = await listenProxied(t)
  const one = client(t, proxy.port)
  await one.ask('1')
  proxy.pass('refuse')
  await one.ended
  await client(t, proxy.port).ended
  proxy.pass('forward')
  t.equal(await client(t, proxy.port).ask('2'), 'a:2')
  t.same(backend.heard, ['1', '2'])
})

t.test('latency delays requests and answers, and keeps their sequence', async t => {
  const { proxy } = await listenProxied(t)
  const one = client(t, proxy.port)
  await one.ask('1')
  proxy.latencyMs = 100
  const before = performance.now()
  t.equal(await one.ask('2'), 'a:2')
  // Timers may be early by less than a ms. There is no upper bound to assert.
  t.ok(performance.now() - before >= 198)
  one.say('3')
  proxy.latencyMs = 0
  t.equal(await one.ask('4'), 'a:34', 'a later request does not overtake')
  proxy.latencyMs = 1_000
  one.say('5')
  await new Promise(setImmediate)
  proxy.disconnectAll()
  await one.ended
})

t.test('closing the proxy under load, while clients and server go away, ends every connection', async t => {
  const { backend, proxy } = await listenProxied(t)
  const clients = Array.from({ length: 20 }, () => client(t, proxy.port))
  for (const { socket, ask } of clients) {
    await ask('1')
    socket.on('data', () => socket.write('x'.repeat(50_000)))
    socket.write('2')
  }
  for (let heard = 0; heard < 100; heard++) await once(backend.server, 'heard')
  // Their own ends and the proxy's meet, in every order.
  const ends = [...backend.sockets].map(async (socket, index) => {
    const closed = new Promise(resolve => socket.once('close', resolve))
    if (index % 4 === 0) socket.end()
    if (index % 4 === 1) socket.resetAndDestroy()
    await closed
  })
  clients.forEach(({ socket }, index) => { if (index % 4 === 2) socket.end() })
  for (let turn = 0; turn < 3; turn++) {
    await new Promise(setImmediate)
    proxy.disconnectAll()
  }
  await Promise.all([...ends, ...clients.map(({ ended }) => ended)])
})
