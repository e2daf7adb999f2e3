import t from 'tap'
import { burstOver, start } from './start.ts'

// These tests wait more than they work.
t.jobs = 3

t.test('requests in flight at SIGTERM are answered, and the process exits 0', async t => {
  const program = await start(t, 'work')
  const answers = Promise.all([1, 2, 3].map(() => fetch(`${program.url}/work`)))
  await program.hears('begun', 3)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  for (const answer of await answers) {
    t.equal(answer.status, 200)
    t.equal(answer.headers.get('connection'), 'close')
    t.same(await answer.json(), { open: true }, 'resources were still open')
  }
  t.same(await program.ended, [0, null])
  t.match(program.report, {
    reason: 'SIGTERM',
    state: 'closed',
    exitCode: 0,
    requests: { atStart: 3, inFlight: 0, completed: { count: 3 }, abandoned: { count: 0 } }
  })
  t.same([...program.report.requests.completed.ids].sort(), ['req-1', 'req-2', 'req-3'])
})

t.test('an idle process exits at once', async t => {
  const program = await start(t, 'work')
  program.kill('SIGINT')
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
})

t.test('a burst of signals is one request to stop', async t => {
  const program = await start(t, 'work')
  const answer = fetch(`${program.url}/work`)
  await program.hears('begun')
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGINT'] as const) program.kill(signal)
  await program.line('closing')
  program.kill('SIGTERM')
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
})

t.test('a second signal after the burst makes the process report and exit 22', async t => {
  const program = await start(t, 'work')
  const answer = fetch(`${program.url}/work`).catch((error: Error) => error)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  await burstOver()
  program.kill('SIGTERM')
  t.same(await program.ended, [22, null])
  t.type(await answer, Error)
  t.match(program.report, { exitCode: 22, requests: { abandoned: { count: 1, ids: ['req-1'] } } })
})

t.test('signals that waited while the loop was blocked are one burst', async t => {
  const program = await start(t, 'blocked')
  program.tell('block')
  await program.hears('blocking')
  program.kill('SIGTERM')
  program.kill('SIGINT')
  t.same(await program.ended, [0, null])
})

t.test('a signal during the boot is held until the boot is done', async t => {
  const program = await start(t, 'boot', {}, 'nothing')
  await program.hears('booting')
  program.kill('SIGTERM')
  await program.line('stopping')
  program.tell('boot')
  t.same(await program.ended, [0, null])
  t.same(program.said, ['booting', 'opened', 'listening', 'resource closed'])
})

t.test('only the signals of the option start a stop', async t => {
  const program = await start(t, 'work', { signals: ['SIGTERM'] })
  program.kill('SIGINT')
  t.same(await program.ended, [null, 'SIGINT'])
})
