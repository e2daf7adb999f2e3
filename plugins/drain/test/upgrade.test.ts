import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

t.test('an upgraded connection gets its closing hook, and then a second to end', async t => {
  const program = await start(t, 'upgrade')
  const [polite, deaf] = [await connect(t, program.url), await connect(t, program.url)]
  polite.get('/polite', 'Connection: Upgrade\r\nUpgrade: echo\r\n')
  deaf.get('/deaf', 'Connection: Upgrade\r\nUpgrade: echo\r\n')
  await program.hears('upgraded', 2)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  await Promise.all([polite.ended, deaf.ended])
  t.match(polite.received, /bye$/)
  t.notMatch(deaf.received, /408/)
  t.match(program.report.connections, { open: 0, closed: { upgraded: 2, normally: 0 } })
  t.ok(program.report.elapsed >= 1_000 && program.report.elapsed < 2_500, `in ${program.report.elapsed} ms`)
})
