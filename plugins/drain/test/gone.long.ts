import { once } from 'node:events'
import { connect as connectHttp2, constants } from 'node:http2'
import type { ClientHttp2Session } from 'node:http2'
import { connect as netConnect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { start } from './start.ts'
import type { Program } from './start.ts'

t.jobs = 2

/** Clients leave after 0, 2, … ms, up to this. */
const latestMs = 20
const stepMs = 2
/** A stop that misses the end of one request takes its whole deadline: so long that a busy machine is not mistaken for it. */
const deadlineMs = 20_000
const quickMs = 8_000

/** No code can end these once their client has gone; only the garbage collector tells. */
const endless = ['/long-poll', '/long-poll-promise', '/never', '/never-hook']
/** The forms that clients do not leave by the thousand. */
const apart = /^\/(long-poll|never|commits)/

interface Asked {
  method: 'GET' | 'POST'
  path: string
  headers: Record<string, string>
  body: string
}

const part = 'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
const file = `--a\r\n${part}${'z'.repeat(5_000)}`
const ended = '\r\n--a--\r\n'

/** @param missing how many bytes of the body do not come */
function post (path: string, type: string, body: string, missing: number): Asked {
  return { method: 'POST', path, headers: { 'Content-Type': type, 'Content-Length': String(body.length + missing) }, body }
}

function get (path: string): Asked {
  return { method: 'GET', path, headers: { 'Accept-Encoding': 'gzip' }, body: '' }
}

const posts = [0, 100].flatMap(missing => [
  post('/json', 'application/json', missing === 0 ? '{"a":1}' : '{"a":', missing),
  post('/json', 'application/json', '{"a', missing),
  post('/body', 'application/octet-stream', 'abc', missing),
  post('/parsed', 'application/x-parsed', 'abc', missing),
  ...['file', 'files', 'buffer', 'save'].map(how => post(`/multipart/${how}`, 'multipart/form-data; boundary=a', missing === 0 ? file + ended : file, missing))
])

/** All routes that the fixture declares, and those of its plugins. */
async function forms (program: Program): Promise<Asked[]> {
  const { routes } = program.said.find(said => Object.hasOwn(Object(said), 'routes')) as { routes: string[] }
  const paths = routes.filter(path => !apart.test(path))
  return [
    ...[...paths, '/static/large.txt', '/static/missing.txt', '/proxy/late', '/proxy/large', '/proxy/broken', '/nowhere', '/callback-404/nowhere'].map(get),
    ...posts
  ]
}

interface State {
  inFlight: number
  routes: string[]
  heap: number
}

/** `settled`: once nothing is in flight, or the fixture gives up waiting. `collected`: after the garbage collector has run. */
async function state (program: Program, which: 'settled' | 'collected'): Promise<State> {
  const said = program.said.length
  program.tell(which)
  for (;;) {
    const found = program.said.slice(said).find(answer => Object.hasOwn(Object(answer), 'inFlight'))
    if (found !== undefined) return found as unknown as State
    await once(program.child, 'message')
  }
}

type Leave = (asked: Asked, ms: number) => Promise<void>

function overTcp (program: Program, reset = false): Leave {
  const { hostname, port } = new URL(program.url)
  return async ({ method, path, headers, body }, ms) => {
    const socket = netConnect(Number(port), hostname)
    socket.on('error', () => {})
    socket.resume()
    await once(socket, 'connect')
    const head = Object.entries({ Host: 'a', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`).join('')
    socket.write(`${method} ${path} HTTP/1.1\r\n${head}\r\n${body}`)
    await sleep(ms)
    if (reset) socket.resetAndDestroy()
    else socket.destroy()
  }
}

function overHttp2 (t: Test, program: Program, how: 'reset' | 'session'): Leave {
  // Not one session for all: Node ends one whose client resets too many streams (CVE-2023-44487).
  const shared = new Map<number, ClientHttp2Session>()
  t.teardown(() => { for (const session of shared.values()) session.destroy() })
  const open = (): ClientHttp2Session => connectHttp2(program.url).on('error', () => {})
  const openShared = (ms: number): ClientHttp2Session => {
    const session = shared.get(ms) ?? open()
    shared.set(ms, session)
    return session
  }
  return async ({ method, path, headers, body }, ms) => {
    const session = how === 'session' ? open() : openShared(ms)
    const stream = session.request({ ':method': method, ':path': path, ...headers }, { endStream: method === 'GET' })
    stream.on('error', () => {}).resume()
    if (method === 'POST') stream.write(body)
    if (session.connecting) await once(session, 'connect')
    await sleep(ms)
    if (how === 'session') session.destroy()
    else stream.close(constants.NGHTTP2_CANCEL)
  }
}

/** Clients ask for each form, and leave it at each of the times. */
async function leaveAll (asked: Asked[], leave: Leave): Promise<number> {
  for (let ms = 0; ms <= latestMs; ms += stepMs) await Promise.all(asked.map(each => leave(each, ms)))
  return asked.length * (latestMs / stepMs + 1)
}

for (const [protocol, how] of [['HTTP/1', 'FIN'], ['HTTP/1', 'RST'], ['HTTP/2', 'a reset of the stream'], ['HTTP/2', 'the end of the session']] as const) {
  t.test(`a client that leaves any form of route at any time leaves nothing in flight: ${protocol}, by ${how}`, async t => {
    const http2 = protocol === 'HTTP/2'
    const program = await start(t, 'gone', { folder: t.testdir(), http2, deadline: deadlineMs })
    const leave = http2 ? overHttp2(t, program, how === 'the end of the session' ? 'session' : 'reset') : overTcp(program, how === 'RST')
    const asked = await forms(program)
    const left = await leaveAll(asked, leave)
    t.ok(left > 1_000, `${left} have left`)
    const { inFlight, routes } = await state(program, 'settled')
    t.same([inFlight, routes], [0, []])

    // Some that the stop still finds.
    await Promise.all(asked.map(each => leave(each, 5)))
    program.kill('SIGTERM')
    t.same(await program.ended, [0, null])
    t.equal(program.said.at(-1), 'resource closed')
    t.ok(program.report.elapsed < quickMs, `in ${program.report.elapsed} ms`)
  })
}

t.test('clients that leave do not leak memory', async t => {
  const program = await start(t, 'gone', { folder: t.testdir(), gc: true })
  const leave = overTcp(program)
  // Each of these once kept some KB for every client that left.
  const paths = ['/silent-callback', '/silent-late', '/web-late', '/send-file-late/large.txt', '/from/late', '/from-returned/broken', '/proxy/late', '/onSend-throws', ...endless]
  const asked = paths.flatMap(path => Array.from({ length: 10 }, () => get(path)))
  const heaps: number[] = []
  // The first rounds fill caches and compile.
  for (let round = 0; round < 4; round++) {
    for (let time = 0; time < 5; time++) await Promise.all(asked.map(each => leave(each, 5)))
    const { inFlight, routes, heap } = await state(program, 'collected')
    t.same([inFlight, routes], [0, []])
    heaps.push(heap)
  }
  const left = 2 * 5 * asked.length
  const grown = (Number(heaps[3]) - Number(heaps[1])) / left
  t.ok(grown < 500, `${Math.round(grown)} bytes for each of ${left} clients: ${heaps.join(', ')}`)
})

t.test('a request that no code can end is given up once its client has gone', async t => {
  const program = await start(t, 'gone', { folder: t.testdir(), gc: true })
  await Promise.all([...endless, ...endless].map(path => overTcp(program)(get(path), 20)))
  const { inFlight, routes } = await state(program, 'collected')
  t.same([inFlight, routes], [0, []])
})

for (const [index, path] of endless.entries()) {
  t.test(`a request that no code can end does not hold a stop, even if the process cannot collect its garbage: ${path}`, async t => {
    const program = await start(t, 'gone', { folder: t.testdir(), deadline: deadlineMs })
    // The stop must find it even if it was the last to arrive.
    const paths = [...endless.slice(index + 1), ...endless.slice(0, index + 1)]
    for (const path of paths) await overTcp(program)(get(path), 20)
    program.kill('SIGTERM')
    t.same(await program.ended, [0, null])
    t.match(program.report.requests, { completed: { count: paths.length }, abandoned: { count: 0 } })
    t.ok(program.report.elapsed < quickMs, `in ${program.report.elapsed} ms`)
  })
}

for (const http2 of [false, true]) {
  t.test(`a stop waits for the work of a client that has gone, and does not mistake it for a request that no code can end: HTTP/${http2 ? 2 : 1}`, async t => {
    const program = await start(t, 'gone', { folder: t.testdir(), http2 })
    const paths = ['', '-async', '-in-hook', '-in-hook-callback', '-after-abort', '-after-abort-request', '-after-abort-callback'].map(form => `/commits${form}`)
    const leave = http2 ? overHttp2(t, program, 'reset') : overTcp(program)
    await Promise.all(paths.map(path => leave(get(path), 50)))
    await program.hears('begun', paths.length)
    program.kill('SIGTERM')
    t.same(await program.ended, [0, null])
    t.equal(program.said.filter(said => said === 'committed').length, paths.length)
    t.equal(program.said.at(-1), 'resource closed')
    t.match(program.report.requests, { completed: { count: paths.length } })
  })
}
