import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp, type AppOverrides, type RunningApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

const { url: databaseUrl } = await createTestDatabase(t)
const get = 'GET /livez HTTP/1.1\r\nHost: a\r\n\r\n'
const held = 'GET /held HTTP/1.1\r\nHost: a\r\n\r\n'
/** A request that is no probe, and needs no token. */
const ask = 'GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n'

interface Busy extends RunningApp {
  /** Answers all requests for /held. */
  release: () => void
  /** How many of them are under way. */
  held: () => number
  turnedAway: (reason: string) => Promise<number>
}

async function start (t: Test, settings: AppOverrides['settings'] = {}): Promise<Busy> {
  const waiting = new Set<() => void>()
  const service = await startApp(t, {
    databaseUrl,
    settings,
    extend: app => {
      app.route({
        method: ['GET', 'POST'],
        url: '/held',
        handler: async () => {
          await new Promise<void>(resolve => waiting.add(resolve))
          return 'released'
        }
      })
    }
  })
  return {
    ...service,
    release: () => {
      for (const end of waiting) end()
      waiting.clear()
    },
    held: () => waiting.size,
    turnedAway: async reason => {
      const text = await service.app.metrics.render()
      return Number(new RegExp(`connections_turned_away_total\\{port="api",reason="${reason}"\\} (\\d+)`).exec(text)?.[1])
    }
  }
}

t.test('the connection that has been idle for longest gives way to a new one when all are taken', async t => {
  const { url, turnedAway } = await start(t, { MAX_CONNECTIONS: '2' })
  const first = await open(t, url)
  const second = await open(t, url)
  for (const peer of [first, second, first]) t.match(await peer.answer(ask), /^HTTP\/1\.1 404/)
  const third = await open(t, url)
  t.match(await third.answer(ask), /^HTTP\/1\.1 404/)
  t.equal(await second.rest(), '', 'it gets no bytes, because it could take them for the answer to its next request')
  t.match(await first.answer(ask), /^HTTP\/1\.1 404/)
  t.equal(await turnedAway('idle'), 1)
})

t.test('a connection that gives way while it asks is answered not-started, and is not reset', async t => {
  const { url, app } = await start(t, { MAX_CONNECTIONS: '1' })
  const first = await open(t, url)
  t.match(await first.answer(ask), /^HTTP\/1\.1 404/)
  const accepted = once(app.server, 'connection')
  await open(t, url)
  await accepted
  t.match(await first.answer(ask), refused)
  t.equal(await first.rest(), '')
})

t.test('a connection that never asked gives way too, and is answered', async t => {
  const { url } = await start(t, { MAX_CONNECTIONS: '1' })
  const first = await open(t, url)
  const second = await open(t, url)
  t.match(await second.answer(ask), /^HTTP\/1\.1 404/)
  t.match(await first.rest(), refused)
})

t.test('a new connection is refused with an answer while none is idle, and is served when one is', async t => {
  const service = await start(t, { MAX_CONNECTIONS: '2' })
  const { url, turnedAway } = service
  const busy = [await open(t, url), await open(t, url)]
  for (const peer of busy) peer.socket.write(held)
  await until(() => service.held() === 2)

  const asking = await open(t, url)
  t.match(await asking.answer(ask), refused)
  t.equal(await asking.rest(), '', 'it is closed after that')
  const posting = await open(t, url)
  posting.socket.write('POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n')
  const answer = posting.rest()
  // A server that closes before it has read this resets the connection, and its answer is lost.
  posting.socket.write('x'.repeat(100_000))
  t.match(await answer, refused)
  t.match(await (await open(t, url)).rest(), refused, 'also if it never asks')
  const slow = await open(t, url)
  slow.socket.write('GET /nothing HTT')
  t.match(await slow.rest(), refused, 'also if it asks only in part')
  t.match(await (await open(t, url)).answer(get), /^HTTP\/1\.1 200 [^]*connection: close/i, 'probes are answered')
  t.equal(await turnedAway('full'), 5)

  service.release()
  for (const peer of busy) t.match(await peer.next(), /^HTTP\/1\.1 200/)
  t.match(await (await open(t, url)).answer(ask), /^HTTP\/1\.1 404/)
})

t.test('refused connections hold at most sixteen places, and each is answered', async t => {
  const service = await start(t, { MAX_CONNECTIONS: '1' })
  const { url, app } = service
  const busy = await open(t, url)
  busy.socket.write(held)
  await until(() => service.held() === 1)
  const crowd = await Promise.all(Array.from({ length: 60 }, async () => await open(t, url)))
  await until(async () => await connectionsOf(app) <= 1 + 16)
  for (const text of await Promise.all(crowd.map(async peer => await peer.rest()))) if (!refused.test(text)) t.fail(`one got ${text}`)
  service.release()
  t.match(await busy.next(), /^HTTP\/1\.1 200/)
})

t.test('a request whose head or body stays incomplete gives way, but only after some time', async t => {
  const service = await start(t, { MAX_CONNECTIONS: '2' })
  const { app, url, turnedAway } = service
  const accepted = once(app.server, 'connection')
  const head = await open(t, url)
  head.socket.write('GET /nothing HTT')
  const [seen]: Socket[] = await accepted
  await until(() => seen?.bytesRead !== 0)
  const asked = once(app.server, 'request')
  const body = await open(t, url)
  body.socket.write('POST /held HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{')
  await asked
  t.match(await (await open(t, url)).answer(ask), refused)
  const served: Peer[] = []
  while (served.length < 2) {
    const peer = await open(t, url)
    if (refused.test(await peer.answer(ask))) continue
    peer.socket.write(held)
    served.push(peer)
    await until(() => service.held() === served.length)
  }
  t.match(await head.rest(), /^HTTP\/1\.1 408 /)
  t.match(await body.rest(), /^HTTP\/1\.1 408 /)
  t.equal(await turnedAway('late'), 2)
  service.release()
  for (const peer of served) t.match(await peer.next(), /^HTTP\/1\.1 200/)
})

t.test('a connection keeps no place for the rest of a body that is answered already', async t => {
  const { url } = await start(t, { MAX_CONNECTIONS: '1' })
  const first = await open(t, url)
  t.match(await first.answer('POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{'), /^HTTP\/1\.1 401/)
  first.socket.write(' '.repeat(9))
  await until(async () => /^HTTP\/1\.1 404/.test(await (await open(t, url)).answer(ask)))
})

t.test('an address gets no more connections than its share, and its own idle one gives way first', async t => {
  const service = await start(t, { CONNECTIONS_PER_ADDRESS: '2' })
  const { url, turnedAway } = service
  const first = await open(t, url)
  const busy = await open(t, url)
  busy.socket.write(held)
  await until(() => service.held() === 1)
  const third = await open(t, url)
  t.match(await first.rest(), refused, 'its idle one gives way')
  third.socket.write(held)
  await until(() => service.held() === 2)
  t.match(await (await open(t, url)).answer(ask), refused)
  t.match(await (await open(t, url, '127.0.0.2')).answer(ask), /^HTTP\/1\.1 404/, 'another address has a share of its own')
  t.equal(await turnedAway('address'), 1)
  service.release()
})

t.test('a trusted proxy names the client whose share counts, and no other peer can', async t => {
  const service = await start(t, { CONNECTIONS_PER_ADDRESS: '1', TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8, 2001:db8:1::/48' })
  const { url, turnedAway } = service
  const from = (path: string, headers: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n\r\n`
  const busy = await open(t, url)
  busy.socket.write(from('/held', 'X-Forwarded-For: 198.51.100.7, 203.0.113.9, 10.1.2.3'))
  const other = await open(t, url)
  other.socket.write(from('/held', 'Forwarded: for="[2001:db8::1]:4711";proto=https, for=10.1.2.3'))
  await until(() => service.held() === 2)
  for (const same of ['X-Forwarded-For: 203.0.113.9', 'X-Forwarded-For: 1.1.1.1, 203.0.113.9:5000', 'Forwarded: For=203.0.113.9', 'X-Forwarded-For: 2001:db8::ffff, 2001:db8:1::1']) {
    t.match(await (await open(t, url)).answer(from('/nothing', same)), refused, same)
  }
  for (const another of ['X-Forwarded-For: 203.0.113.10', 'X-Forwarded-For: 203.0.113.9, 203.0.113.10', 'X-Forwarded-For: 2001:db8:0:1::1', 'Forwarded: for=unknown', 'X-A: b']) {
    t.match(await (await open(t, url)).answer(from('/nothing', another)), /^HTTP\/1\.1 404/, another)
  }
  t.match(await (await open(t, url)).answer(from('/livez', 'X-Forwarded-For: 203.0.113.9')), /^HTTP\/1\.1 200/, 'probes count for no client')
  t.equal(await turnedAway('address'), 4)

  // A peer that is no trusted proxy has its own share, whatever it says.
  const stranger = await open(t, url, '127.0.0.2')
  stranger.socket.write(from('/held', 'X-Forwarded-For: 203.0.113.77'))
  await until(() => service.held() === 3)
  t.match(await (await open(t, url, '127.0.0.2')).answer(from('/nothing', 'X-Forwarded-For: 203.0.113.78')), refused)
  service.release()
  await busy.next()
  t.match(await (await open(t, url)).answer(from('/nothing', 'X-Forwarded-For: 203.0.113.9')), /^HTTP\/1\.1 404/)
})

t.test('two headers that name different clients give a client no further share', async t => {
  const service = await start(t, { CONNECTIONS_PER_ADDRESS: '1', TRUSTED_PROXIES: '127.0.0.1' })
  const { url } = service
  const forged = (path: string, made: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=${made}\r\n\r\n`
  const busy = await open(t, url)
  busy.socket.write(forged('/held', '198.51.100.1'))
  await until(() => service.held() === 1)
  t.match(await (await open(t, url)).answer(forged('/nothing', '198.51.100.2')), refused)
  service.release()
})

const refused = /^HTTP\/1\.1 503 (?=[^]*retry-after: \d)(?=[^]*connection: close)(?=[^]*application\/problem\+json)[^]*"type":"\/problems\/not-started"[^]*"instance":"/i

interface Peer {
  socket: Socket
  /** Writes the bytes, and returns the next that come. */
  answer (bytes: string): Promise<string>
  next (): Promise<string>
  /** All that comes until the other side closes. Rejects at a reset. */
  rest (): Promise<string>
}

async function open (t: Test, url: string, localAddress?: string): Promise<Peer> {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', ...localAddress !== undefined && { localAddress } })
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  const next = async (): Promise<string> => {
    const [chunk] = await Promise.race([once(socket, 'data'), once(socket, 'end').then(() => [''])])
    return String(chunk)
  }
  return {
    socket,
    next,
    async answer (bytes) {
      socket.write(bytes)
      return await next()
    },
    async rest () {
      let text = ''
      for await (const chunk of socket) text += String(chunk)
      return text
    }
  }
}

async function until (holds: () => boolean | Promise<boolean>): Promise<undefined> {
  while (!await holds()) await setImmediate()
}

async function connectionsOf ({ server }: RunningApp['app']): Promise<number> {
  return await new Promise((resolve, reject) => {
    server.getConnections((error, count) => {
      if (error === null) resolve(count)
      else reject(error)
    })
  })
}
