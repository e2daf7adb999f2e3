import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

const formPaths = [
  '/async', '/async-nothing', '/async-before', '/nothing-before', '/callback', '/raw', '/return-reply', '/await-reply', '/hijack', '/hijack-late', '/stream',
  '/hook', '/thrown', '/thrown-at-once', '/rejected-hook', '/callback-error', '/not-found'
]

for (const onlyAfter of [true, false]) {
  const forms = formPaths.filter(form => !onlyAfter || !form.endsWith('before'))

  t.test(`a handler whose client hangs up finishes before resources close${onlyAfter ? '' : ', also with routes declared before the plugin'}`, async t => {
    const program = await start(t, 'forms', { onlyAfter })
    for (const [index, form] of forms.entries()) {
      const client = await connect(t, program.url)
      client.get(form)
      await program.hears('begun', index + 1)
      client.socket.destroy()
    }
    program.kill('SIGTERM')
    await program.line('closing')
    program.tell('finish')
    t.same(await program.ended, [0, null])
    t.same(program.said.filter(said => said === 'finished').length, forms.length)
    t.notOk(program.said.includes('finished too late'))
    t.match(program.report.requests, { completed: { count: forms.length }, unstarted: { count: 0 }, abandoned: { count: 0 } })
  })
}

t.test('a stream whose client has left holds no stop', async t => {
  const program = await start(t, 'forms')
  for (const [index, form] of ['/endless', '/endless-callback'].entries()) {
    const client = await connect(t, program.url)
    client.get(form)
    await client.receives('first')
    client.socket.destroy()
    await program.hears('stream ended', index + 1)
  }
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.match(program.report, { requests: { atStart: 0, abandoned: { count: 0 } } })
})

t.test('a request whose handler has begun is answered, whatever form the handler has', async t => {
  const program = await start(t, 'forms')
  const forms = ['/declared-before', ...formPaths.filter(form => !/nothing/.test(form))]
  const answers = forms.map(form => fetch(program.url + form))
  await program.hears('begun', forms.length)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  for (const answer of answers) {
    const { status, headers } = await answer
    t.match([status, headers.get('connection')], [/200|404|500/, 'close'])
  }
  t.same(await program.ended, [0, null])
  t.notOk(program.said.includes('finished too late'))
  t.equal(program.report.requests.completed.count, forms.length)
})

t.test('the stop waits for a handler that goes on after its reply', async t => {
  const program = await start(t, 'forms')
  t.equal((await fetch(`${program.url}/after-reply`)).status, 200)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.ok(program.said.includes('finished'))
})

t.test('the stop waits for a request by app.inject()', async t => {
  const program = await start(t, 'forms')
  program.tell('inject')
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.ok(program.said.includes('finished'))
  t.ok(program.said.includes('injected'))
})

t.test('a request in flight may still call app.inject() while closing', async t => {
  const program = await start(t, 'inject-late')
  const answer = fetch(`${program.url}/outer`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await (await answer).json(), { inner: 200 })
  t.same(await program.ended, [0, null])
})

t.test('a plain app.close() answers the requests that have begun', async t => {
  const program = await start(t, 'forms', { exit: false })
  const answer = fetch(`${program.url}/async`)
  await program.hears('begun')
  program.tell('close')
  await program.line('closing')
  program.tell('finish')
  t.equal((await answer).status, 200)
  await program.hears('closed')
  t.match((await program.line(/^stopped/)).drain, { reason: 'close', state: 'closed', exitCode: 0, requests: { completed: { count: 1 } } })
})

t.test('a plain app.close() waits for tracked work, and for handlers whose client has gone, before resources close', async t => {
  const program = await start(t, 'forms', { exit: false })
  t.equal((await fetch(`${program.url}/tracked`)).status, 200)
  const client = await connect(t, program.url)
  client.get('/callback')
  await program.hears('begun', 2)
  client.socket.destroy()
  program.tell('close')
  await program.line('closing')
  program.tell('finish')
  await program.hears('closed')
  t.same(program.said.slice(-4), ['finished', 'finished', 'resource closed', 'closed'])
})
