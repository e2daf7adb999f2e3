import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { connect } from './connect.ts'
import type { Client } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

t.jobs = 3

/** ms. The heads of the streams could not announce the close, so their connections stay open for another second. */
const soon = 2_500
const hooks = ['async', 'callback', 'child']

async function openStreams (t: Test, program: Program): Promise<Client[]> {
  return Promise.all(hooks.map(async by => {
    const client = await connect(t, program.url)
    client.get(`/stream/${by}`)
    await client.receives(`data: ${by}`)
    return client
  }))
}

/** The last chunk of a chunked body: the stream was ended, and not cut. */
const whole = /\r\n0\r\n\r\n$/

t.test('preClose hooks run once each, in order, when closing begins, and end their streams before resources close', async t => {
  const program = await start(t, 'pre-close')
  const clients = await openStreams(t, program)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  for (const client of clients) {
    await client.ended
    t.match(client.received, whole)
  }
  t.same(program.said, ['listening', 'first', ...hooks, 'resource closed'])
  t.ok(program.report.elapsed < soon, `in ${program.report.elapsed} ms`)
  t.match(program.report.requests, { completed: { count: 3 }, abandoned: { count: 0 } })
})

t.test('preClose hooks run once and end their streams when app.close() is called without a stop', async t => {
  const program = await start(t, 'pre-close')
  const clients = await openStreams(t, program)
  program.tell('app.close')
  for (const client of clients) {
    await client.ended
    t.match(client.received, whole)
  }
  t.same(await program.ended, [0, null])
  t.same(program.said, ['listening', 'first', ...hooks, 'resource closed', 'closed'])
})

t.test('a preClose hook that hangs is named in the report, and delays the others by no more than its share', async t => {
  const program = await start(t, 'pre-close', { wrong: 'hangs', deadline: 2_000 })
  const clients = await openStreams(t, program)
  program.kill('SIGTERM')
  for (const client of clients) {
    await client.ended
    t.match(client.received, whole)
  }
  t.same(await program.ended, [21, null])
  t.match(await program.line(/hangs/), { hook: /'first'/ })
  t.same(program.said.slice(1), ['first', ...hooks, 'resource closed'])
  const report = program.report.hooks.find(({ name }) => name.includes("'first'"))
  t.match(report, { phase: 'closing', outcome: 'timed-out' })
  t.ok((report?.duration ?? NaN) >= 900 && (report?.duration ?? NaN) < 1_500, `${String(report?.duration)} ms`)
  t.match(program.report.requests, { completed: { count: 3 }, abandoned: { count: 0 } })
})

t.test('a preClose hook that fails is reported, and the other hooks run', async t => {
  const program = await start(t, 'pre-close', { wrong: 'fails' })
  const clients = await openStreams(t, program)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  for (const client of clients) {
    await client.ended
    t.match(client.received, whole)
  }
  t.match(program.report.hooks.find(({ name }) => name.includes("'first'")), { outcome: 'failed', error: 'expected' })
  t.ok(program.report.elapsed < soon, `in ${program.report.elapsed} ms`)
})

async function startProxy (t: Test, options: object = {}): Promise<{ program: Program, socket: WebSocket }> {
  const upstream = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  upstream.on('connection', socket => { socket.send('hello') })
  await once(upstream, 'listening')
  t.teardown(() => {
    for (const client of upstream.clients) client.terminate()
    upstream.close()
  })
  const program = await start(t, 'proxy', { upstream: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`, ...options })
  const socket = new WebSocket(`${program.url.replace('http', 'ws')}/up/`)
  t.teardown(() => socket.terminate())
  await once(socket, 'message')
  return { program, socket }
}

t.test('the WebSockets of a proxy, which end when the server closes, are ended when closing begins', async t => {
  const { program, socket } = await startProxy(t)
  const closed = once(socket, 'close') as Promise<[number]>
  program.kill('SIGTERM')
  const [code] = await closed
  t.not(code, 1006, 'the WebSocket was closed, and not cut')
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
})

t.test('ending the WebSockets of a proxy does not end keep-alive connections between two requests', async t => {
  const { program, socket } = await startProxy(t, { hold: true })
  const closed = once(socket, 'close')
  const client = await connect(t, program.url)
  client.get('/head')
  await client.receives('\r\n\r\na')
  program.kill('SIGTERM')
  await program.line('draining')
  program.tell('finish')
  await client.receives('abc')
  program.tell('close')
  await closed
  // If the server ends its idle connections when the last WebSocket has gone, it does so within these ms.
  await new Promise(resolve => setTimeout(resolve, 150))
  client.get('/')
  await client.receives('{}')
  t.same(client.responses, ['200 keep-alive', '200 close'])
  t.same(await program.ended, [0, null])
})
