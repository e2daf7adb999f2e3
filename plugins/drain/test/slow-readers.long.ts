import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { Test } from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

// These tests wait more than they work.
t.jobs = 4

const size = 20_000_000
const trusting = { rejectUnauthorized: false }

async function open (t: Test, { url }: Program): Promise<Socket> {
  if (url.startsWith('http:')) return (await connect(t, url)).socket.removeAllListeners('data')
  const socket = connectTls(Number(new URL(url).port), '127.0.0.1', trusting)
  t.teardown(() => socket.destroy())
  await once(socket, 'secureConnect')
  return socket
}

/** Sends a request and reads nothing. */
async function ask (t: Test, program: Program, path: string): Promise<void> {
  const socket = await open(t, program)
  socket.on('error', () => {}).pause()
  socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)
}

/** The same over HTTP/2, where the client's window holds the answer up as well as its socket. */
async function askHttp2 (t: Test, program: Program, path: string): Promise<void> {
  const session = connectHttp2(program.url, trusting).on('error', () => {})
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': path }).on('error', () => {})
  await once(stream, 'response')
}

/** Takes longer in all than the stop waits for a client that does not read, but less for each part. */
async function readSlowly (stream: Readable): Promise<number> {
  const start = performance.now()
  let received = 0
  for await (const chunk of stream) {
    received += (chunk as Buffer).length
    await sleep(Math.max(0, start + received / size * 4_500 - performance.now()))
  }
  return received
}

for (const protocol of ['http1', 'tls', 'http2', 'https2']) {
  for (const path of ['/buffer', '/stream']) {
    t.test(`a client that does not read a large answer neither holds nor fails the stop: ${protocol}, ${path}`, async t => {
      const program = await start(t, 'slow-readers', { protocol })
      await (protocol.endsWith('2') ? askHttp2 : ask)(t, program, path)
      await program.hears('begun')
      await sleep(200)
      program.kill('SIGTERM')
      t.same(await program.ended, [0, null])
      t.match(program.report, {
        requests: { stalled: { count: 1, ids: ['req-1'] }, completed: { count: 0 }, abandoned: { count: 0 } },
        connections: { closed: { stalled: 1, aborted: 0 } }
      })
      t.ok(program.report.elapsed >= 3_000 && program.report.elapsed < 6_000, `in ${program.report.elapsed} ms`)
    })
  }
}

for (const protocol of ['http1', 'tls']) {
  t.test(`a client that reads slowly gets its whole answer: ${protocol}`, async t => {
    const program = await start(t, 'slow-readers', { protocol })
    const socket = await open(t, program)
    socket.write('GET /stream HTTP/1.1\r\nHost: a\r\n\r\n')
    await program.hears('begun')
    program.kill('SIGTERM')
    const received = await readSlowly(socket)
    t.ok(received > size, `${received} bytes`)
    t.same(await program.ended, [0, null])
    t.match(program.report.requests, { stalled: { count: 0 }, completed: { count: 1 } })
    t.ok(program.report.elapsed > 3_500, `in ${program.report.elapsed} ms`)
  })
}

t.test('a client that reads slowly over HTTP/2 gets its whole answer', async t => {
  const program = await start(t, 'slow-readers', { protocol: 'http2' })
  const session = connectHttp2(program.url)
  t.teardown(() => session.destroy())
  const stream = session.request({ ':path': '/stream' })
  await once(stream, 'response')
  program.kill('SIGTERM')
  t.equal(await readSlowly(stream), size)
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { stalled: { count: 0 }, completed: { count: 1 } })
  t.ok(program.report.elapsed > 3_500, `in ${program.report.elapsed} ms`)
})

for (const path of ['/buffer', '/stream']) {
  t.test(`a client that reads too slowly to have its answer by the deadline does not fail the stop: ${path}`, async t => {
    const program = await start(t, 'slow-readers', { protocol: 'http2', deadline: 6_000 })
    const session = connectHttp2(program.url).on('error', () => {})
    t.teardown(() => session.destroy())
    const stream = session.request({ ':path': path }).on('error', () => {})
    await once(stream, 'response')
    program.kill('SIGTERM')
    const reading = setInterval(() => stream.read(), 100)
    t.teardown(() => clearInterval(reading))
    t.same(await program.ended, [0, null])
    t.match(program.report, { requests: { stalled: { count: 1, ids: ['req-1'] }, abandoned: { count: 0 } }, phases: { aborted: null } })
  })
}

/** RFC 9113, 4.1. */
function frame (type: number, flags: number, stream: number, payload: number[]): Buffer {
  return Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream, ...payload])
}

t.test('a client that reads some bytes now and then does not hold the stop', async t => {
  const program = await start(t, 'slow-readers', { protocol: 'http2' })
  const { socket } = await connect(t, program.url)
  const window = 10
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  // SETTINGS_INITIAL_WINDOW_SIZE, and GET /buffer (RFC 7541, appendix A).
  socket.write(frame(4, 0, 0, [0, 4, 0, 0, 0, window]))
  socket.write(frame(1, 5, 1, [0x82, 0x86, 0x04, 7, ...Buffer.from('/buffer'), 0x41, 1, ...Buffer.from('a')]))
  await program.hears('begun')
  program.kill('SIGTERM')
  // WINDOW_UPDATE
  const taking = setInterval(() => socket.write(frame(8, 0, 1, [0, 0, 0, window])), 500)
  t.teardown(() => clearInterval(taking))
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { stalled: { count: 1 }, abandoned: { count: 0 } })
  t.ok(program.report.elapsed < 6_000, `in ${program.report.elapsed} ms`)
})

for (const path of ['/pipeline', '/works-on']) {
  t.test(`the stop waits for the handler of an unread answer after the answer was cut: ${path}`, async t => {
    const program = await start(t, 'slow-readers', { protocol: 'http1' })
    await ask(t, program, path)
    await program.hears('begun')
    await sleep(200)
    program.kill('SIGTERM')
    if (path === '/pipeline') {
      await program.hears('cut')
    } else {
      await program.line('closing')
      await sleep(4_000)
    }
    program.tell('finish')
    t.same(await program.ended, [0, null])
    t.same(program.said.slice(-2), ['committed', 'resource closed'])
    t.match(program.report, { requests: { stalled: { count: 1 }, abandoned: { count: 0 } }, connections: { closed: { stalled: 1 } } })
  })
}

t.test('the other streams of a session are answered when its client does not read one of them', async t => {
  const program = await start(t, 'slow-readers', { protocol: 'http2' })
  const session = connectHttp2(program.url)
  t.teardown(() => session.destroy())
  const unread = session.request({ ':path': '/buffer' })
  await once(unread, 'response')
  const work = session.request({ ':path': '/held' })
  await program.hears('begun', 2)
  program.kill('SIGTERM')
  await program.hears('closed')
  program.tell('finish')
  t.match(await once(work, 'response'), [{ ':status': 200 }])
  work.resume()
  t.same(await program.ended, [0, null])
  t.equal(unread.rstCode, constants.NGHTTP2_CANCEL, 'the client cannot take the part for the whole')
  t.match(program.report.requests, { stalled: { count: 1, ids: ['req-1'] }, completed: { count: 1, ids: ['req-2'] } })
})
