import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { connect } from './connect.ts'
import type { Client } from './connect.ts'
import { start } from './start.ts'

// They wait more than they work.
t.jobs = 3

const size = 100_000
const head = '--a\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: application/octet-stream\r\n\r\n'
const tail = '\r\n--a--\r\n'
const multipart = 'multipart/form-data; boundary=a'

/** Their handlers, or a parser of the application, read them as they arrive. */
const read: Array<[path: string, type: string]> = [
  ['/raw', 'application/x-raw'],
  ['/stream', 'application/octet-stream'],
  ['/callback', 'application/octet-stream'],
  ['/file', multipart],
  ['/files', multipart],
  ['/attached', multipart]
]

function bodyFor (type: string): string {
  const content = 'z'.repeat(size)
  return type === multipart ? head + content + tail : content
}

function postHead (client: Client, path: string, type: string, length: number): void {
  client.send(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\nContent-Length: ${length}\r\n\r\n`)
}

/** @returns the offset at which the rest of the body begins */
function sendHalf (client: Client, [path, type]: [string, string]): number {
  const body = bodyFor(type)
  postHead(client, path, type, body.length)
  const half = Math.round(body.length / 2)
  client.send(body.slice(0, half))
  return half
}

t.test('an upload that a handler reads is read to its end, although its client pauses for longer than a second', async t => {
  const program = await start(t, 'uploads')
  const uploads = await Promise.all(read.map(async form => ({ form, client: await connect(t, program.url) })))
  const halves = uploads.map(({ form, client }) => sendHalf(client, form))
  await program.hears('begun', read.length)
  program.kill('SIGTERM')
  await program.line('closing')
  await sleep(1_500)
  for (const [index, { form: [, type], client }] of uploads.entries()) client.send(bodyFor(type).slice(halves[index]))
  await Promise.all(uploads.map(({ client }) => client.ended))
  for (const { form: [path], client } of uploads) {
    t.same(client.responses, ['200 close'], path)
    t.match(client.received, `{"size":${size}}`)
  }
  t.same(await program.ended, [0, null])
  t.equal(program.said.at(-1), 'resource closed')
  t.match(program.report, {
    requests: { completed: { count: read.length }, refused: { count: 0 }, unstarted: { count: 0 } },
    connections: { closed: { incomplete: 0, aborted: 0 } }
  })
})

t.test('an upload that a handler reads and that never ends is abandoned at the deadline, and does not count as completed', async t => {
  const program = await start(t, 'uploads', { deadline: 1_800 })
  const clients = await Promise.all(read.map(() => connect(t, program.url)))
  for (const [index, client] of clients.entries()) sendHalf(client, read[index] ?? ['', ''])
  await program.hears('begun', read.length)
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  for (const { received } of clients) t.equal(received, '')
  t.match(program.report, {
    requests: { completed: { count: 0 }, refused: { count: 0 }, abandoned: { count: read.length } },
    connections: { closed: { aborted: read.length, incomplete: 0 } }
  })
  t.ok(program.report.elapsed >= 1_800, `in ${program.report.elapsed} ms`)
})

t.test('an upload whose client leaves ends with its handler', async t => {
  const program = await start(t, 'uploads')
  const clients = await Promise.all(read.map(() => connect(t, program.url)))
  for (const [index, client] of clients.entries()) sendHalf(client, read[index] ?? ['', ''])
  await program.hears('begun', read.length)
  program.kill('SIGTERM')
  await program.line('closing')
  for (const { socket } of clients) socket.destroy()
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { abandoned: { count: 0 }, refused: { count: 0 } })
  t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
})

for (const [how, chunk] of [['slowly', 10], ['fast', 100_000]] as const) {
  t.test(`a request whose JSON body arrives ${how} for more than two seconds of closing is served`, async t => {
    const program = await start(t, 'uploads')
    const client = await connect(t, program.url)
    const chunks = 50
    postHead(client, '/json', 'application/json', chunks * chunk + 2)
    client.send('"')
    await program.line('incoming request')
    program.kill('SIGTERM')
    await program.line('closing')
    for (let sent = 0; sent < chunks; sent++) {
      client.send('x'.repeat(chunk))
      await sleep(50)
    }
    client.send('"')
    await client.ended
    t.same(client.responses, ['200 close'])
    t.match(client.received, `{"size":${chunks * chunk}}`)
    t.same(await program.ended, [0, null])
    t.match(program.report.requests, { completed: { count: 1 }, refused: { count: 0 } })
  })
}

t.test('a JSON body that arrives a byte now and then does not hold the stop to its deadline, and gets a not-started answer', async t => {
  const program = await start(t, 'uploads')
  const client = await connect(t, program.url)
  postHead(client, '/json', 'application/json', 1_000)
  client.send('"')
  await program.line('incoming request')
  program.kill('SIGTERM')
  const trickle = setInterval(() => client.send('x'), 300)
  t.teardown(() => clearInterval(trickle))
  t.same(await program.ended, [0, null])
  t.match(client.responses, ['503 close'])
  t.match(program.report, { requests: { refused: { count: 1 }, completed: { count: 0 } }, phases: { aborted: null } })
})

/** An upload that stands still: its answer, and what the report says of it. */
const stalled: Array<[what: string, path: string, type: string, status: number, tally: object, from: number]> = [
  ['that was answered early', '/early', 'application/x-raw', 200, { completed: { count: 1 }, refused: { count: 0 } }, 0],
  ['that was larger than its limit', '/limited', 'application/json', 413, { completed: { count: 1 }, refused: { count: 0 } }, 0],
  ['of which nothing has begun', '/json', 'application/json', 503, { completed: { count: 0 }, refused: { count: 1 } }, 1_000]
]

for (const [what, path, type, status, tally, from] of stalled) {
  t.test(`over HTTP/2, an upload ${what} does not hold the stop, even if its client never ends it`, async t => {
    const program = await start(t, 'uploads', { http2: true })
    const session = connectHttp2(program.url)
    t.teardown(() => session.destroy())
    const stream = session.request({ ':method': 'POST', ':path': path, 'Content-Type': type })
    const response = once(stream, 'response')
    stream.resume()
    stream.write('"a')
    if (status === 503) await program.line('incoming request')
    else await response
    program.kill('SIGTERM')
    t.match(await response, [{ ':status': status }])
    t.same(await program.ended, [0, null])
    t.match(program.report.requests, { ...tally, abandoned: { count: 0 } })
    t.ok(program.report.elapsed >= from && program.report.elapsed < from + 1_500, `in ${program.report.elapsed} ms`)
  })
}
