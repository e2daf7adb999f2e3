import { createServer, type Server } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { crowdNames, gather, type Against } from '../../hostile/crowds.ts'
import type { AddressInfo, Socket } from 'node:net'

/** A service that serves everybody, without any defence. */
interface Service extends Against {
  readonly sockets: ReadonlySet<Socket>
  readonly asked: string[]
}

async function serve (t: Test): Promise<Service> {
  const sockets = new Set<Socket>()
  const asked: string[] = []
  const server: Server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    if (request.method === 'GET') response.end(Buffer.alloc(request.url === '/large' ? 1_000_000 : 10))
  })
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    sockets,
    asked,
    url: `http://127.0.0.1:${port}`,
    target: {
      readiness: '/ready',
      request: ({ kind }) => kind === 'place' ? { method: 'POST', path: '/orders', headers: { 'content-type': 'application/json' } } : undefined,
      hostile: { large: { method: 'GET', path: '/large', headers: {} }, past: { method: 'GET', path: '/stream', headers: {} } }
    }
  }
}

t.test('each crowd has many clients, sends no more requests than it counts, and is gone when it is told to leave', async t => {
  for (const name of crowdNames) {
    const service = await serve(t)
    const crowd = await gather(name, service)
    while (service.sockets.size + service.asked.length < 10) await delay(10)
    crowd.leave()
    while (service.sockets.size > 0) await delay(10)
    t.ok(service.asked.filter(request => request.startsWith('GET')).length <= crowd.asked, name)
  }
})

t.test('slow readers have answers waiting for them, and idle clients outnumber the connections that a service may have', async t => {
  const readers = await serve(t)
  const slow = await gather('slow-readers', readers)
  while (![...readers.sockets].some(({ writableLength }) => writableLength > 0)) await delay(10)
  slow.leave()

  const room = await serve(t)
  const idle = await gather('idle-crowd', room)
  while (room.sockets.size < 1_100) await delay(10)
  t.same(new Set(room.asked), new Set(['GET /ready']))
  idle.leave()
})

t.test('slow writers never finish their requests', async t => {
  const service = await serve(t)
  const crowd = await gather('slow-writers', service)
  while (service.asked.length < 40) await delay(10)
  t.same(new Set(service.asked), new Set(['POST /orders']))
  t.equal(crowd.asked, 0)
  crowd.leave()
})
