import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

// These tests wait more than they work.
t.jobs = 2

const clientCount = 14

for (const later of [300, 700]) {
  t.test(`a client whose reply could not announce the close is still served ${later} ms after that reply`, async t => {
    const program = await start(t, 'connections')
    const clients = await Promise.all(Array.from({ length: clientCount }, () => connect(t, program.url)))
    await Promise.all(clients.map(async client => {
      client.get('/started')
      await client.receives('first')
    }))
    program.kill('SIGTERM')
    await program.line('closing')
    program.tell('finish')
    await Promise.all(clients.map(async client => {
      await client.receives('last')
      await sleep(later)
      client.get('/')
    }))
    for (const client of clients) {
      t.equal(await client.ended, 'end')
      t.same(client.responses, ['200 keep-alive', '200 close'])
    }
    t.same(await program.ended, [0, null])
    t.match(program.report.requests, { completed: { count: 2 * clientCount }, refused: { count: 0 } })
    t.ok(program.report.elapsed < later + 1_500, `in ${program.report.elapsed} ms`)
  })
}

t.test('a client whose reply could not announce the close, and that stays silent, holds the stop for about a second', async t => {
  const program = await start(t, 'connections')
  const client = await connect(t, program.url)
  client.get('/started')
  await client.receives('first')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.equal(await client.ended, 'end')
  t.same(client.responses, ['200 keep-alive'])
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed >= 900 && program.report.elapsed < 2_000, `in ${program.report.elapsed} ms`)
})

t.test('when every reply announced the close, the stop takes no longer than its requests', async t => {
  const program = await start(t, 'connections')
  const [idle, ...busy] = await Promise.all(Array.from({ length: clientCount }, () => connect(t, program.url)))
  idle?.get('/')
  await idle?.receives('{}')
  for (const client of busy) client.get('/held')
  await program.hears('begun', busy.length)
  await sleep(100)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  for (const client of busy) {
    await client.ended
    t.same(client.responses, ['200 close'])
  }
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 800, `in ${program.report.elapsed} ms`)
})
