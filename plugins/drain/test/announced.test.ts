import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

const forms = [
  '/reply-header', '/reply-headers', '/raw-set-header', '/raw-object', '/raw-object-message', '/raw-flat', '/raw-pairs', '/raw-flat-twice', '/raw-flat-after-set',
  '/raw-default', '/hijack', '/from'
]

t.test('during a stop every reply says Connection: close, whatever Connection header the application sets', async t => {
  const program = await start(t, 'announced')
  const clients = await Promise.all(forms.map(() => connect(t, program.url)))
  for (const [index, client] of clients.entries()) client.get(String(forms[index]))
  await program.hears('begun', forms.length)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  for (const [index, client] of clients.entries()) {
    t.equal(await client.ended, 'end')
    t.same(client.responses, ['200 close'], String(forms[index]))
    t.equal(client.received.match(/^connection:/gim)?.length, 1, 'the header comes once')
    t.match(client.received, /\r\n\r\n(2\r\n)?\{\}/)
    t.equal(client.received.match(/^set-cookie:/gim)?.length ?? 0, forms[index] === '/raw-flat-twice' ? 2 : 0)
  }
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
})

t.test('while serving, the plugin leaves the Connection header of the application alone', async t => {
  const program = await start(t, 'announced')
  program.tell('finish')
  const clients = await Promise.all(forms.map(() => connect(t, program.url)))
  for (const [index, client] of clients.entries()) {
    client.get(String(forms[index]))
    await client.receives('{}')
    t.same(client.responses, ['200 keep-alive'], String(forms[index]))
  }
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
})
