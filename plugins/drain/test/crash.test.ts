import t from 'tap'
import { start } from './start.ts'

for (const [fault, reason, error] of [['throw', 'uncaughtException', 'thrown'], ['reject', 'unhandledRejection', 'rejected']] as const) {
  t.test(`an ${reason} drains without a lame duck, and exits 1`, async t => {
    const program = await start(t, 'crash')
    const answer = fetch(`${program.url}/work`)
    await program.hears('begun')
    program.tell(fault)
    await program.line('closing')
    program.tell('finish')
    t.equal((await answer).status, 200)
    t.same(await program.ended, [1, null])
    t.match(program.report, { reason, error, exitCode: 1, requests: { completed: { count: 1 } } })
    t.ok(program.report.elapsed < 3_000)
    t.ok(program.said.includes('resource closed'))
  })
}

t.test('an error during a stop abandons nothing: it ends the lame duck, and exits 1', async t => {
  const program = await start(t, 'crash')
  const answer = fetch(`${program.url}/work`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('draining')
  program.tell('throw')
  await program.line('closing')
  program.tell('throw again')
  await program.line(/uncaughtException/)
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [1, null])
  t.match(program.report, { reason: 'SIGTERM', error: 'thrown', requests: { completed: { count: 1 } } })
})

t.test('a start that fails exits 1', async t => {
  const program = await start(t, 'failed-start', {}, 'nothing')
  t.same(await program.ended, [1, null])
  t.match(program.report, { error: 'no database', exitCode: 1 })
  t.ok(program.report.elapsed < 5_000, 'the stop does not wait for a boot that never ends')
})

t.test('without a logger the error is printed', async t => {
  const program = await start(t, 'silent-crash', {}, 'nothing')
  t.same(await program.ended, [1, null])
  t.match(program.errors, /uncaughtException[^]*expected/)
})
