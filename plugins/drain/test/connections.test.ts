import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect as netConnect } from 'node:net'
import { join } from 'node:path'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Client, connect } from './connect.ts'
import { start } from './start.ts'

// These tests wait more than they work.
t.jobs = 3

t.test('idle and never-used connections do not hold the exit', async t => {
  const program = await start(t, 'connections')
  const idle = await connect(t, program.url)
  idle.get('/')
  await idle.receives('{}')
  const unused = await connect(t, program.url)
  await sleep(150)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.same(await Promise.all([idle.ended, unused.ended]), ['end', 'end'], 'neither was reset')
  t.match(program.report.connections, { open: 0, closed: { idle: 1, unused: 1 } })
  t.ok(program.report.elapsed < 900, `in ${program.report.elapsed} ms`)
})

t.test('a client that asks again soon on a connection that was just answered is served', async t => {
  let judged = 0
  // A round in which every client was held up proves nothing; ten such rounds in a row are no test.
  for (let round = 1; round <= 10 && judged < 20; round++) {
    const program = await start(t, 'connections')
    const clients = await Promise.all(Array.from({ length: 20 }, () => connect(t, program.url)))
    const asking = clients.map(askUntilEnded)
    await sleep(100)
    program.kill('SIGTERM')
    for (const { served, rested } of await Promise.all(asking)) {
      if (!served && rested >= 50) continue
      judged++
      t.ok(served, `asked ${Math.round(rested)} ms after the request before it`)
    }
    t.same(await program.ended, [0, null])
  }
  t.ok(judged >= 20, `${judged} were judged`)
})

t.test('a connection with an incomplete head is ended after a second', async t => {
  const program = await start(t, 'connections')
  const fresh = await connect(t, program.url)
  fresh.send('GET / HTTP/1.1\r\nHost')
  const used = await connect(t, program.url)
  used.get('/')
  await used.receives('{}')
  used.send('GET / HTTP/1.1\r\nHost')
  await sleep(50)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.match(fresh.received, /^HTTP\/1.1 408 /)
  t.match(used.responses, ['200 keep-alive', '408 close'])
  t.match(program.report.connections.closed, { incomplete: 2 })
  t.ok(program.report.elapsed >= 1_000 && program.report.elapsed < 2_000, `in ${program.report.elapsed} ms`)
})

t.test('a request whose head becomes complete in time is served', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.send('GET / HTTP/1.1\r\nHost')
  await sleep(50)
  program.kill('SIGTERM')
  await program.line('closing')
  client.send(': a\r\n\r\n')
  await client.ended
  t.same(client.responses, ['200 close'])
  t.same(await program.ended, [0, null])
})

t.test('a request whose body stands still is refused after a second with a not-started answer', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{')
  await program.line('incoming request')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.match(client.received, /^HTTP\/1.1 503 [^]*not-started/)
  t.match(program.report, { connections: { closed: { incomplete: 1 } }, requests: { refused: { count: 1, ids: ['req-1'] }, completed: { count: 0 } } })
  t.ok(program.report.elapsed >= 1_000 && program.report.elapsed < 2_000, `in ${program.report.elapsed} ms`)
})

t.test('a body that a handler reads has until the deadline, even if it stands still for a while', async t => {
  const program = await start(t, 'connections')
  const [moving, pausing] = [await connect(t, program.url), await connect(t, program.url)]
  for (const client of [moving, pausing]) {
    client.send('POST /streamed HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 40\r\n\r\n')
  }
  await program.hears('begun', 2)
  program.kill('SIGTERM')
  await program.line('closing')
  for (let sent = 0; sent < 40; sent++) {
    moving.send('x')
    await sleep(40)
  }
  pausing.send('x'.repeat(40))
  await Promise.all([moving.ended, pausing.ended])
  t.same([moving.responses, pausing.responses], [['200 close'], ['200 close']])
  t.same(await program.ended, [0, null])
  t.match(program.report, { requests: { completed: { count: 2 } }, connections: { closed: { incomplete: 0 } } })
})

t.test('a request whose handler reads a body that never becomes complete is abandoned at the deadline, and never counts as completed', async t => {
  const program = await start(t, 'connections', { deadline: 2_000 })
  const client = await connect(t, program.url)
  client.send('POST /streamed HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: 40\r\n\r\nx')
  await program.hears('begun')
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.same(client.responses, [])
  t.match(program.report, { requests: { completed: { count: 0 }, abandoned: { count: 1 } }, connections: { closed: { aborted: 1 } } })
})

t.test('the stop waits for a body that nothing reads yet as long as it arrives', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n"')
  await program.line('incoming request')
  program.kill('SIGTERM')
  await program.line('closing')
  for (let sent = 0; sent < 40; sent++) {
    client.send('x')
    await sleep(50)
  }
  client.send('"')
  await client.ended
  t.same(client.responses, ['200 close'])
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { completed: { count: 1 }, refused: { count: 0 } })
})

t.test('all pipelined requests are answered, and only the last reply closes the connection', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  for (const number of [1, 2, 3]) client.get(`/held?number=${number}`)
  await program.hears('begun', 3)
  program.kill('SIGTERM')
  await program.line('draining')
  program.tell('finish')
  await client.ended
  t.same(client.responses, ['200 keep-alive', '200 keep-alive', '200 close'])
  t.match(client.received, /"1"[^]*"2"[^]*"3"/)
  t.same(await program.ended, [0, null])
})

t.test('when another request follows on the same connection, its reply announces the close instead', async t => {
  const program = await start(t, 'connections', { hold: true })
  const client = await connect(t, program.url)
  client.get('/held?number=1')
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('draining')
  client.get('/held?number=2')
  await program.hears('begun', 2)
  program.tell('close')
  program.tell('finish')
  await client.ended
  t.same(client.responses, ['200 keep-alive', '200 close'])
  t.same(await program.ended, [0, null])
})

t.test('a request that arrives after an announced close is not started', async t => {
  const program = await start(t, 'connections', { hold: true })
  program.kill('SIGTERM')
  await program.line('draining')
  const client = await connect(t, program.url)
  client.get('/started')
  await client.receives('first')
  client.get('/held')
  await program.line('incoming request', 2)
  program.tell('finish')
  t.equal(await client.ended, 'end')
  program.tell('close')
  t.same(client.responses, ['200 close'])
  t.same(await program.ended, [0, null])
  t.notOk(program.said.includes('begun'))
  t.match(program.report.requests, { unstarted: { count: 1, ids: ['req-2'] }, completed: { count: 1 } })
  t.ok(program.report.elapsed < 2_000, `in ${program.report.elapsed} ms`)
})

t.test('a connection whose reply was under way at the signal is closed after it', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.get('/started')
  await client.receives('first')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  await client.receives('last')
  t.equal(await client.ended, 'end')
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 3_000, `in ${program.report.elapsed} ms`)
})

t.test('a large reply is sent to its end while a slow client reads it', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.socket.pause()
  client.get('/large')
  await program.line('incoming request')
  await sleep(100)
  program.kill('SIGTERM')
  await program.line('closing')
  await sleep(200)
  client.socket.resume()
  await client.ended
  t.equal(client.received.length - client.received.indexOf('\r\n\r\n') - 4, 20_000_000)
  t.same(await program.ended, [0, null])
})

t.test('connections in the accept queue are served', async t => {
  const release = join(t.testdir(), 'release')
  const program = await start(t, 'connections', { release })
  program.tell('block')
  await program.hears('blocked')
  program.kill('SIGTERM')
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(t, program.url)))
  for (const client of clients) client.get('/')
  writeFileSync(release, '')
  const ends = await Promise.all(clients.map(({ ended }) => ended))
  t.same([...new Set(ends)], ['end'])
  t.same([...new Set(clients.flatMap(({ responses }) => responses))], ['200 close'])
  t.same(await program.ended, [0, null])
})

t.test('a client that connects while the accept queue is emptied gets a refused connection, not a reset', async t => {
  const release = t.testdir()
  const program = await start(t, 'crowd', { release })
  program.kill('SIGTERM')
  await program.line('hook')
  const waiting = await connect(t, program.url)
  waiting.get('/')
  writeFileSync(join(release, 'hook'), '')
  await program.line('accepting')
  const late = Array.from({ length: 20 }, () => {
    const client = new Client(netConnect(Number(new URL(program.url).port), '127.0.0.1'))
    client.get('/')
    return client
  })
  // Gives each client time to ask for its connection.
  await turn()
  await turn()
  writeFileSync(join(release, 'accepting'), '')
  const ends = await Promise.all(late.map(({ ended }) => ended))
  await waiting.ended
  t.same(waiting.responses, ['200 close'])
  t.equal(ends.filter(end => end === 'ECONNRESET').length, 0)
  // A backlog of 0 still holds one connection.
  t.ok(ends.filter(end => end === 'ECONNREFUSED').length >= 15, ends.join(' '))
  t.same(await program.ended, [0, null])
})

t.test('a request that waits for 100 Continue is served while draining', async t => {
  const program = await start(t, 'connections', { hold: true })
  const client = await connect(t, program.url)
  program.kill('SIGTERM')
  await program.line('draining')
  client.send('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n')
  await client.receives('100 Continue')
  client.send('{}')
  await client.ended
  t.same(client.responses, ['100 none', '200 close'])
  program.tell('close')
  t.same(await program.ended, [0, null])
})

/**
 * Sends one request after the other, 30 ms between them.
 *
 * @returns served: whether the last reply announced the end. rested: ms from the request before the last one until the
 * last one was sent or the connection ended; the service cannot have seen the connection idle for longer
 */
async function askUntilEnded (client: Client): Promise<{ served: boolean, rested: number }> {
  let askedAt = performance.now()
  for (let asked = 1; ; asked++) {
    const before = askedAt
    askedAt = performance.now()
    client.get('/')
    const rested = performance.now() - before
    while (client.responses.length < asked && !client.socket.destroyed) await Promise.race([once(client.socket, 'data'), client.ended])
    if (client.responses.length < asked) return { served: false, rested }
    if (client.responses.at(-1) === '200 close') return { served: true, rested }
    await Promise.race([sleep(30), client.ended])
    if (client.socket.destroyed) return { served: false, rested: performance.now() - askedAt }
  }
}
