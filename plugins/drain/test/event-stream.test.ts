import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

t.test('an event stream goes on through the lame duck, and is ended by its closing hook', async t => {
  const program = await start(t, 'event-stream', { hold: true })
  const [listener, gone] = [await connect(t, program.url), await connect(t, program.url)]
  for (const client of [listener, gone]) client.get('/events')
  await program.hears('streaming', 2)
  gone.socket.destroy()
  await program.hears('gone')
  program.kill('SIGTERM')
  await program.line('draining')
  t.notMatch(listener.received, /bye/)
  program.tell('close')
  t.equal(await listener.ended, 'end')
  t.match(listener.received, /event: hello[^]*event: bye\n\n\r\n0\r\n\r\n$/, 'the stream came to its last chunk')
  t.same(await program.ended, [0, null])
  t.equal(program.report.hooks.filter(({ phase }) => phase === 'closing').length, 1, 'the hook of the client that has gone was removed')
  t.match(program.report.requests, { completed: { count: 1 }, abandoned: { count: 0 } })
})
