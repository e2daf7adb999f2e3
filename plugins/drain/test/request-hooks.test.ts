import t from 'tap'
import type { Test } from 'tap'
import { connect } from './connect.ts'
import type { Client } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

// These tests wait more than they work.
t.jobs = 2

const forms = (names: string[]): string[] => names.flatMap(name => [`/${name}`, `/${name}-callback`]).flatMap(path => [path, `${path}-of-app`])

const answered = forms(['preSerialization', 'onSend', 'onError', 'onResponse'])
// Fastify runs no onResponse hook for a client that leaves before its answer.
const gone = forms(['preSerialization', 'onSend', 'onError', 'onRequestAbort'])
const timedOut = forms(['onTimeout'])

async function askAll (t: Test, program: Program, paths: string[]): Promise<Client[]> {
  const clients = await Promise.all(paths.map(() => connect(t, program.url)))
  for (const [index, client] of clients.entries()) client.get(String(paths[index]))
  return clients
}

/** Their clients leave before the answer, and then the hooks run. */
async function leaveAll (t: Test, program: Program): Promise<void> {
  const clients = await askAll(t, program, gone)
  await program.hears('waiting', gone.length)
  for (const { socket } of clients) socket.destroy()
  // The onRequestAbort hooks show that the service has noticed.
  await program.hears('begun', gone.length / 4)
  program.tell('go')
  await program.hears('begun', gone.length)
}

t.test('hooks of the last answers finish before resources close', async t => {
  const program = await start(t, 'request-hooks')
  const clients = await askAll(t, program, answered)
  await program.hears('begun', answered.length)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  await Promise.all(clients.map(({ ended }) => ended))
  t.same(await program.ended, [0, null])
  t.equal(program.said.filter(said => said === 'committed').length, answered.length)
  t.equal(program.said.at(-1), 'resource closed')
  for (const [index, { responses }] of clients.entries()) t.match(responses, [/^[25]00 /], String(answered[index]))
  t.match(program.report.requests, { completed: { count: answered.length }, abandoned: { count: 0 } })
})

t.test('hooks of a request whose client has gone finish before resources close', async t => {
  const program = await start(t, 'request-hooks', { gone: true })
  await leaveAll(t, program)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.equal(program.said.filter(said => said === 'committed').length, gone.length)
  t.equal(program.said.at(-1), 'resource closed')
  t.match(program.report.requests, { completed: { count: gone.length }, abandoned: { count: 0 } })
})

t.test('hooks of a connection that has timed out finish before resources close', async t => {
  const program = await start(t, 'request-hooks', { gone: true, connectionTimeout: 200 })
  await askAll(t, program, timedOut)
  await program.hears('begun', timedOut.length)
  program.tell('go')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.equal(program.said.filter(said => said === 'committed').length, timedOut.length)
  t.equal(program.said.at(-1), 'resource closed')
})

t.test('a hook of an answer that hangs is reported as abandoned by its request id', async t => {
  const program = await start(t, 'request-hooks', { deadline: 800 })
  await askAll(t, program, answered)
  await program.hears('begun', answered.length)
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.match(program.report.requests, { abandoned: { count: answered.length, ids: { length: answered.length } }, completed: { count: 0 } })
})

t.test('a hook that hangs after its client has gone is reported as abandoned by its request id', async t => {
  const program = await start(t, 'request-hooks', { gone: true, deadline: 800 })
  await leaveAll(t, program)
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.match(program.report.requests, { abandoned: { count: gone.length, ids: { length: gone.length } }, completed: { count: 0 } })
})
