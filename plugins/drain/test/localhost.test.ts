import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

t.test('on localhost, every listener is drained', async t => {
  const program = await start(t, 'localhost')
  const { port } = new URL(program.url)
  const addresses = await (await fetch(`${program.url}/addresses`)).json() as string[]
  t.same(addresses.sort(), ['127.0.0.1', '127.0.0.2'])
  const origins = addresses.map(address => `http://${address}:${port}`)
  const answers = origins.map(origin => fetch(`${origin}/work`))
  for (const origin of origins) await connect(t, origin)
  const idle = await Promise.all(origins.map(origin => connect(t, origin)))
  for (const client of idle) {
    client.get('/')
    await client.receives('{}')
  }
  await program.hears('begun', 2)
  await new Promise(resolve => setTimeout(resolve, 150))
  program.kill('SIGTERM')
  await program.line('closing')
  // Connections that arrive while the listeners close are accepted.
  for (const origin of origins) while (await fetch(origin).then(() => true, () => false));
  program.tell('finish')
  for (const answer of answers) t.equal((await answer).headers.get('connection'), 'close')
  t.same(await program.ended, [0, null])
  t.same(program.said.slice(-3), ['finished', 'finished', 'resource closed'])
  t.match(program.report.connections, { open: 0, closed: { unused: 2 } })
  t.ok(program.report.elapsed < 3_000)
})

t.test('SIGTERM during the lookup of localhost, before anything listens, leads to a clean stop', async t => {
  const program = await start(t, 'slow-lookup', {}, 'nothing')
  await program.hears('lookup 1')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.equal(program.report.exitCode, 0)
})

for (const [answered, after] of [['while draining', 'draining'], ['while closing', 'closing'], ['never', null]] as const) {
  t.test(`SIGTERM while Fastify looks up the other addresses of localhost, answered ${answered}, leads to a clean stop`, async t => {
    const program = await start(t, 'slow-lookup', { lameDuck: { min: 200 }, deadline: 4_000 }, 'nothing')
    await program.hears('lookup 1')
    program.tell('found 1')
    const { msg } = await program.line(/^Server listening at /)
    await program.hears('lookup 2')
    const answer = fetch(`${msg.replace('Server listening at ', '')}/work`)
    await program.hears('begun')
    program.kill('SIGTERM')
    if (after !== null) {
      await program.line(after)
      // The listener closes right after the line.
      await new Promise(resolve => setTimeout(resolve, 100))
      program.tell('found 2')
    }
    await program.line('closing')
    await new Promise(resolve => setTimeout(resolve, 200))
    program.tell('finish')
    t.equal((await answer).status, 200)
    t.same(await program.ended, [0, null])
    t.match(program.report, { exitCode: 0, requests: { completed: { count: 1 } } })
    t.notOk(program.lines.some(({ level }) => level >= 50), 'no error is logged')
    t.same(program.said.slice(-2), ['finished', 'resource closed'])
  })
}
