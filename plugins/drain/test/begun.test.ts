import t from 'tap'
import type { Test } from 'tap'
import { connect } from './connect.ts'
import type { Client } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

t.jobs = 2

const hooks = ['onRequest', 'preParsing', 'preValidation', 'preHandler'].flatMap(name => [`/${name}`, `/${name}-callback`])
const multipart = '--a\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ntext\r\n--a--\r\n'

const forms: Array<[path: string, type: string, body: string]> = [
  ...[...hooks, '/of-app', '/middleware', '/middleware-answers'].map((path): [string, string, string] => [path, 'application/json', '{}']),
  ['/parser', 'application/x-async', 'chunk'],
  ['/parser', 'application/x-callback', 'chunk'],
  ['/parser', 'application/x-string', 'chunk'],
  ['/multipart', 'multipart/form-data; boundary=a', multipart]
]

function post (client: Client, [path, type, body]: [string, string, string], missing = 0): void {
  client.send(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\nContent-Length: ${body.length + missing}\r\n\r\n${body}`)
}

/** One client for each form; the work of each has begun. */
async function beginAll (t: Test, program: Program): Promise<Client[]> {
  const clients = await Promise.all(forms.map(() => connect(t, program.url)))
  for (const [index, form] of forms.entries()) {
    const client = clients[index]
    if (client !== undefined) post(client, form)
  }
  await program.hears('begun', forms.length)
  return clients
}

t.test('a request whose hook or parser still runs at the deadline is reported as abandoned by its id, and gets no not-started answer', async t => {
  const program = await start(t, 'begun', { deadline: 800 })
  const clients = await beginAll(t, program)
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  for (const [index, { received }] of clients.entries()) t.equal(received, '', String(forms[index]?.slice(0, 2).join(' ')))
  const { abandoned, refused, completed } = program.report.requests
  t.equal(abandoned.count, forms.length)
  t.same([...abandoned.ids].sort(), forms.map((_, index) => `req-${(index + 1).toString(36)}`).sort())
  t.match([refused.count, completed.count], [0, 0])
})

t.test('a request whose hook or parser runs at the signal is finished and answered before resources close', async t => {
  const program = await start(t, 'begun')
  const clients = await beginAll(t, program)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  await Promise.all(clients.map(({ ended }) => ended))
  for (const [index, { responses }] of clients.entries()) t.same(responses, ['200 close'], String(forms[index]?.slice(0, 2).join(' ')))
  t.same(await program.ended, [0, null])
  t.equal(program.said.filter(said => said === 'committed').length, forms.length)
  t.equal(program.said.at(-1), 'resource closed')
  t.match(program.report.requests, { completed: { count: forms.length }, refused: { count: 0 } })
})

t.test('a hook or parser finishes before resources close, even after its client has gone', async t => {
  const program = await start(t, 'begun')
  const clients = await beginAll(t, program)
  for (const { socket } of clients) socket.destroy()
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.equal(program.said.filter(said => said === 'committed').length, forms.length)
  t.equal(program.said.at(-1), 'resource closed')
  t.ok(program.report.elapsed < 3_000, `in ${program.report.elapsed} ms`)
})

t.test('a request gets a not-started answer while only Fastify waits for its body', async t => {
  const program = await start(t, 'begun')
  const [json, string] = [await connect(t, program.url), await connect(t, program.url)]
  post(json, ['/json', 'application/json', '{'], 10)
  post(string, ['/parser', 'application/x-string', 'a'], 10)
  await program.line('incoming request', 2)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  for (const { received } of [json, string]) t.match(received, /^HTTP\/1.1 503 [^]*not-started/)
  t.match(program.report.requests, { refused: { count: 2 }, completed: { count: 0 }, abandoned: { count: 0 } })
  t.notOk(program.said.includes('handler begun') || program.said.includes('begun'))
})

t.test('a request whose body still arrives at the deadline gets a not-started answer', async t => {
  const program = await start(t, 'begun', { deadline: 1_500 })
  const client = await connect(t, program.url)
  post(client, ['/json', 'application/json', '{'], 1_000)
  await program.line('incoming request')
  program.kill('SIGTERM')
  const timer = setInterval(() => client.send(' '), 50)
  t.teardown(() => clearInterval(timer))
  t.same(await program.ended, [0, null])
  t.match(client.received, /^HTTP\/1.1 503 [^]*not-started/)
  t.match(program.report.requests, { refused: { count: 1 }, completed: { count: 0 }, abandoned: { count: 0 } })
})

t.test('a request pipelined behind a close never begins, whatever hooks its route has', async t => {
  const program = await start(t, 'begun', { hold: true })
  program.kill('SIGTERM')
  await program.line('draining')
  const client = await connect(t, program.url)
  post(client, ['/started', 'application/json', '{}'])
  await client.receives('first')
  post(client, ['/preHandler', 'application/json', '{}'])
  await program.line('incoming request', 2)
  program.tell('close')
  program.tell('answer')
  t.equal(await client.ended, 'end')
  t.same(client.responses, ['200 close'])
  t.same(await program.ended, [0, null])
  t.match(program.report.requests, { unstarted: { count: 1, ids: ['req-2'] }, completed: { count: 1 }, abandoned: { count: 0 } })
  t.notOk(program.said.includes('begun'))
})
