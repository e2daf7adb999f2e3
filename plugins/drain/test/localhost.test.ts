import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

t.test('on localhost, every listener is drained', async (t) => {
  const program = await start(t, 'localhost')
  const { port } = new URL(program.url)
  const addresses = await (await fetch(`${program.url}/addresses`)).json() as string[]
  t.same(addresses.sort(), ['127.0.0.1', '127.0.0.2'])
  const origins = addresses.map((address) => `http://${address}:${port}`)
  const answers = origins.map((origin) => fetch(`${origin}/work`))
  for (const origin of origins) await connect(t, origin)
  const idle = await Promise.all(origins.map((origin) => connect(t, origin)))
  for (const client of idle) {
    client.get('/')
    await client.receives('{}')
  }
  await program.hears('begun', 2)
  await new Promise((resolve) => setTimeout(resolve, 150))
  program.kill('SIGTERM')
  await program.line('closing')
  // Those that come while the listeners close are let in.
  for (const origin of origins) while (await fetch(origin).then(() => true, () => false));
  program.tell('finish')
  for (const answer of answers) t.equal((await answer).headers.get('connection'), 'close')
  t.same(await program.ended, [0, null])
  t.same(program.said.slice(-3), ['finished', 'finished', 'resource closed'])
  t.match(program.report.connections, { open: 0, closed: { unused: 2 } })
  t.ok(program.report.elapsed < 3_000)
})
