import t from 'tap'
import { start } from './start.ts'

t.jobs = 3

/** The signals that close-with-grace listens to by itself. */
const others = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2'] as const

t.test('the plugin listens only to the signals of its option, and to SIGHUP, which comes with SIGTERM', async t => {
  const program = await start(t, 'other-signals', { signals: ['SIGTERM'] })
  t.same(await (await fetch(`${program.url}/listeners`)).json(), { SIGTERM: 1, SIGHUP: 1 })
})

for (const signal of ['SIGHUP', 'SIGUSR2', 'SIGQUIT', 'SIGINT', 'SIGBUS'] as const) {
  t.test(`${signal} ends the process as Node does when it is not in the option`, async t => {
    const program = await start(t, 'other-signals', { signals: ['SIGTERM'] })
    program.kill(signal)
    t.same(await program.ended, [null, signal])
    t.notOk(program.lines.some(({ msg }) => msg === 'stopping'))
  })
}

t.test('SIGHUP ends the process when the only other listener raises it again, and a stop survives it', async t => {
  const serving = await start(t, 'other-signals', { signals: ['SIGTERM'], raises: true })
  serving.kill('SIGHUP')
  t.same(await serving.ended, [null, 'SIGHUP'])

  const stopping = await start(t, 'other-signals', { signals: ['SIGTERM'], raises: true })
  const answer = fetch(`${stopping.url}/work`)
  await stopping.hears('begun')
  stopping.kill('SIGTERM')
  await stopping.line('closing')
  stopping.kill('SIGHUP')
  // Nothing shows that the process has received it.
  await new Promise(resolve => setTimeout(resolve, 200))
  stopping.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await stopping.ended, [0, null])
})

t.test('signals that only the application listens to start no stop', async t => {
  const program = await start(t, 'other-signals', { signals: ['SIGTERM'], own: others })
  for (const signal of others) {
    program.kill(signal)
    await program.hears(`own ${signal}`)
  }
  const answer = fetch(`${program.url}/work`)
  await program.hears('begun')
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.equal((await answer).headers.get('connection'), 'keep-alive')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.equal(program.report.reason, 'SIGTERM')
})

for (const own of [[], ['SIGHUP']]) {
  const who = own.length === 0 ? 'that nobody listens to' : 'that the application listens to'
  t.test(`SIGHUP ${who} after SIGTERM, as systemd sends it, does not cut the stop short`, async t => {
    const program = await start(t, 'other-signals', { signals: ['SIGTERM'], own })
    const answer = fetch(`${program.url}/work`)
    await program.hears('begun')
    program.kill('SIGTERM')
    await program.line('stopping')
    program.kill('SIGHUP')
    await program.line('closing')
    if (own.length > 0) await program.hears('own SIGHUP')
    program.tell('finish')
    t.equal((await answer).status, 200)
    t.same(await program.ended, [0, null])
    t.match(program.report, { exitCode: 0, requests: { completed: { count: 1 }, abandoned: { count: 0 } } })
  })
}

t.test('SIGHUP at the same moment as SIGTERM does not cut the stop short', async t => {
  const program = await start(t, 'other-signals', { signals: ['SIGTERM'], alone: true })
  const answer = fetch(`${program.url}/work`)
  await program.hears('begun')
  program.kill('SIGTERM')
  program.kill('SIGHUP')
  await program.line('closing')
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
})
