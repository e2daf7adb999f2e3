import Fastify from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import { start } from './start.ts'

t.test('each hook runs once, in its phase, and before resources close', async t => {
  const program = await start(t, 'hooks')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.same(program.said, ['listening', 'draining for SIGTERM in draining', 'closing in closing', 'resource closed'])
})

t.test('the stop names a hook that hangs, and goes on without it', async t => {
  const program = await start(t, 'hooks')
  await fetch(`${program.url}/hung`)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  const line = await program.line(/hangs/)
  t.equal(line.hook, 'deregister')
  t.match(program.report.hooks.find(({ name }) => name === 'deregister'), { phase: 'closing', outcome: 'timed-out' })
  t.ok(program.said.includes('resource closed'))
  t.ok(program.report.elapsed < 1_500)
})

t.test('a hook without a timeout gets half of the remaining time', async t => {
  const program = await start(t, 'hooks', { deadline: 1_000 })
  await fetch(`${program.url}/hung-unnamed`)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  const { duration } = program.report.hooks.find(({ name }) => name === 'flip the agent') ?? { duration: NaN }
  t.ok(duration >= 450 && duration < 900, `${duration} ms`)
})

t.test('a hook that fails makes the process exit 21, and the other hooks run', async t => {
  const program = await start(t, 'hooks')
  await fetch(`${program.url}/failed`)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  t.match(program.report.hooks.find(({ name }) => name === 'failing'), { outcome: 'failed', error: 'expected' })
  t.ok(program.said.includes('closing in closing'))
})

t.test('a hook added after its phase has begun runs at once, and a removed hook never runs', async t => {
  const program = await start(t, 'hooks')
  const answer = fetch(`${program.url}/late`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('go')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.ok(program.said.includes('late hook'))
  t.notOk(program.said.includes('removed'))
  const { hooks, phases } = program.report
  const startOf = (name: string): number => hooks.find(hook => hook.name.includes(name))?.started ?? NaN
  t.ok(startOf('late hook') >= (phases.closing ?? NaN), 'the report has the time at which the hook began')
  t.ok(startOf('app.close') >= startOf('late hook'))
})

t.test('the stop waits for tracked work; a rejection of it is reported, and does not fail the stop', async t => {
  const program = await start(t, 'hooks')
  await fetch(`${program.url}/track`)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.ok(program.said.indexOf('work finished') < program.said.indexOf('resource closed'))
  t.ok(program.said.includes('same promise'))
  t.match(program.report.tracked, { settled: 2, failed: [{ label: 'receipt', error: 'expected' }], abandoned: [] })
})

t.test('an onClose hook that fails is a failure of the stop', async t => {
  const program = await start(t, 'hooks')
  await fetch(`${program.url}/close-fails`)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  t.match(program.report.hooks.at(-1), { name: 'app.close', outcome: 'failed', error: 'expected' })
})

t.test('track() refuses a value that is no promise, and a stop does not wait for it', async t => {
  const program = await start(t, 'hooks')
  t.same(await (await fetch(`${program.url}/track-nothing`)).json(), { code: 'FST_ERR_DRAIN_TRACK', pending: [] })
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 1_000, `in ${program.report.elapsed} ms`)
  t.match(program.report.tracked, { settled: 0, abandoned: [] })
})

t.test('a thenable is tracked like a promise', async t => {
  const program = await start(t, 'hooks')
  await fetch(`${program.url}/track-thenable`)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.same(await program.ended, [0, null])
  t.ok(program.said.indexOf('query done') < program.said.indexOf('resource closed'))
  t.match(program.report.tracked, { settled: 1, abandoned: [] })
})

t.test('an onClose hook without a name is reported by the beginning of its source', async t => {
  const program = await start(t, 'hooks', { deadline: 800, hangs: 'unnamed' })
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  t.match(program.report.hooks.at(-1), { name: 'app.close', outcome: 'timed-out', error: /^hangs in the onClose hook 'async \(\) => \{ await told\('never'\) \}' of .*pool$/ })
})

for (const hangs of ['promise', 'callback']) {
  t.test(`an onClose hook that hangs (${hangs}) is named in the report, and does not hold the exit beyond the deadline`, async t => {
    const program = await start(t, 'hooks', { deadline: 800, hangs })
    program.kill('SIGTERM')
    t.same(await program.ended, [21, null])
    t.match(program.report.hooks.at(-1), { name: 'app.close', outcome: 'timed-out', error: /^hangs in the onClose hook 'disconnect' of .*pool$/ })
    t.match(await program.line(/hangs/), { msg: /'disconnect' of .*pool/, hook: 'app.close' })
    t.ok(program.report.elapsed < 1_500, `in ${program.report.elapsed} ms`)
  })
}

t.test('on() refuses a hook that could never run', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(drain, { exit: false })
  const on = app.drain.on as (phase: string, hook: unknown, options?: object) => unknown
  for (const [phase, hook, options] of [['close', () => {}], ['closing', undefined], ['closing', () => {}, { timeout: Number.NaN }]] as const) {
    t.throws(() => on(phase, hook, options), { code: 'FST_ERR_DRAIN_HOOK' })
  }
})
