import Fastify from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'

// These tests wait more than they work.
t.jobs = 3

t.test('a handler that never ends is abandoned at the deadline, and the process exits 20', async t => {
  const program = await start(t, 'deadline', { deadline: 600 })
  const client = await connect(t, program.url)
  client.get('/hang')
  await program.hears('remaining Infinity')
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.ok(await client.ended)
  t.match(program.report, {
    exitCode: 20,
    phases: { aborted: Number },
    requests: { abandoned: { count: 1, ids: ['req-1'] } },
    connections: { closed: { aborted: 1 } }
  })
  t.match(program.lines.find(({ msg }) => /deadline/.test(msg)), { requests: [{ id: 'req-1', method: 'GET', route: '/hang', phase: 'handler' }] })
  t.ok(program.said.includes('resource closed'), 'resources are closed even then')
  t.ok(program.report.elapsed >= 600 && program.report.elapsed < 1_500, `in ${program.report.elapsed} ms`)
})

t.test('a handler that answers when the signal aborts is not abandoned', async t => {
  const program = await start(t, 'deadline', { deadline: 600 })
  const answer = fetch(`${program.url}/gives-up`)
  await program.hears('begun')
  program.kill('SIGTERM')
  t.same(await (await answer).json(), { gave: 'up' })
  t.same(await program.ended, [0, null])
  t.ok(program.said.includes('aborted at the deadline'))
})

t.test('a request whose hook still runs at the deadline is abandoned, and gets no not-started answer', async t => {
  const program = await start(t, 'deadline', { deadline: 600 })
  const client = await connect(t, program.url)
  client.get('/hook')
  await program.hears('begun')
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.equal(client.received, '')
  t.match(program.report.requests, { refused: { count: 0 }, abandoned: { count: 1, ids: ['req-1'] } })
})

t.test('tracked work that never ends is reported as abandoned by its label', async t => {
  const program = await start(t, 'deadline', { deadline: 600 })
  await fetch(`${program.url}/track`)
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.match(program.report.tracked, { abandoned: ['endless'] })
})

t.test('remaining() counts down during the stop', async t => {
  const program = await start(t, 'deadline', { deadline: 600 })
  await fetch(`${program.url}/pool`)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.ok(program.said.includes('remaining less'), String(program.said))
})

t.test('phases that do not fit into the deadline are refused at registration', async t => {
  const refused: Array<[object, string]> = [
    [{ lameDuck: { min: 5_000, quiet: 1_000, max: 15_000 }, deadline: 15_000 }, 'FST_ERR_DRAIN_BUDGET'],
    [{ lameDuck: { min: 2, max: 1 } }, 'FST_ERR_DRAIN_BUDGET'],
    [{ lameDuck: { quiet: 2, max: 1 } }, 'FST_ERR_DRAIN_BUDGET'],
    [{ deadline: -1 }, 'FST_ERR_DRAIN_OPTION'],
    [{ deadline: Number.NaN }, 'FST_ERR_DRAIN_OPTION'],
    [{ deadline: Infinity }, 'FST_ERR_DRAIN_OPTION'],
    [{ deadline: 2 ** 31 }, 'FST_ERR_DRAIN_OPTION'],
    [{ signals: ['SIGKILL'] }, 'FST_ERR_DRAIN_OPTION'],
    [{ signals: ['SIGNAL'] }, 'FST_ERR_DRAIN_OPTION'],
    [{ onReport: true }, 'FST_ERR_DRAIN_OPTION'],
    [{ refusal: { retryAfter: -1 } }, 'FST_ERR_DRAIN_OPTION']
  ]
  for (const [options, code] of refused) {
    const app = Fastify()
    await t.rejects(async () => { await app.register(drain, { exit: false, ...options }) }, { code }, JSON.stringify(options))
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(drain, { exit: false, lameDuck: { min: 5_000, quiet: 1_000, max: 15_000 }, deadline: 15_001 })
  t.throws(() => app.drain.on('closing', () => {}, { timeout: 15_002 }), { code: 'FST_ERR_DRAIN_BUDGET' })
})
