import t from 'tap'
import { start } from './start.ts'

for (const by of ['plugin', 'onReady', 'listen', 'unawaited']) {
  t.test(`a process that lives on after a failed boot (${by}) ends at once when it gets the signal`, async t => {
    const program = await start(t, 'failed-ready', { by }, 'nothing')
    await program.hears('no database')
    program.kill('SIGTERM')
    t.same(await program.ended, [0, null])
    t.match(program.report, { reason: 'SIGTERM', exitCode: 0 })
    t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
    t.ok(program.said.includes('resource closed'))
  })
}
