import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from 'tap'
import { burstOver, start } from './start.ts'
import type { Program } from './start.ts'

t.jobs = 3

for (const first of [true, false]) {
  const when = first ? 'before' : 'after'

  t.test(`a signal handler from ${when} the plugin that calls app.close() and exits waits for the requests in flight and the report`, async t => {
    const program = await start(t, 'other-closers', { by: 'close', first })
    const answer = fetch(`${program.url}/order/1`)
    await program.hears('begun')
    program.kill('SIGTERM')
    await program.line('closing')
    program.tell('finish')
    t.equal((await answer).status, 200)
    t.same(await program.ended, [0, null])
    t.match(program.report, { state: 'closed', exitCode: 0, requests: { completed: { count: 1 } } })
    t.same(program.said.slice(2), ['begun', 'finished', 'resource closed', 'closed'])
  })

  t.test(`a signal handler from ${when} the plugin that calls app.close() joins the lame duck`, async t => {
    const program = await start(t, 'other-closers', { by: 'close', first, hold: true, lameDuck: { min: 400 } })
    program.kill('SIGTERM')
    await program.line('draining')
    const answer = fetch(`${program.url}/order/1`)
    await program.hears('begun')
    t.equal((await fetch(program.url)).status, 200)
    program.tell('close')
    await program.line('closing')
    program.tell('finish')
    t.equal((await answer).status, 200)
    t.same(await program.ended, [0, null])
    t.ok((program.report.phases.closing ?? 0) >= 400, `closing begins at ${String(program.report.phases.closing)} ms`)
    t.match(program.report, { exitCode: 0, requests: { completed: { count: 2 }, refused: { count: 0 } } })
  })

  t.test(`a signal handler from ${when} the plugin that calls process.exit() during a stop is reported, with the requests in flight`, async t => {
    const program = await start(t, 'other-closers', { by: 'flush', first })
    const answers = [1, 2].map(id => fetch(`${program.url}/order/${id}`).catch((error: Error) => error))
    await program.hears('begun', 2)
    program.kill('SIGTERM')
    t.same(await program.ended, [20, null])
    for (const answer of answers) t.type(await answer, Error)
    t.match(program.report, { exitCode: 20, requests: { abandoned: { count: 2 } } })
    t.match(program.lines.at(-1)?.msg, cutMessage)
    t.match(program.lines.at(-1)?.msg, /req-2/)
  })
}

/** Who ended the process, and what was in flight. */
const cutMessage = /process\.exit\(0\) was called at .*other-closers\.js:\d+:\d+.* in flight: GET \/order\/:id \(req-\d\)/

t.test('the exit code is that of the report, whatever code other code exits with', async t => {
  const abandoning = await start(t, 'other-closers', { by: 'close', deadline: 500 })
  const answer = fetch(`${abandoning.url}/order/1`).catch((error: Error) => error)
  await abandoning.hears('begun')
  abandoning.kill('SIGTERM')
  t.same(await abandoning.ended, [20, null])
  await answer
  t.equal(abandoning.report.exitCode, 20)

  const clean = await start(t, 'other-closers', { by: 'close', code: 3 })
  clean.kill('SIGTERM')
  t.same(await clean.ended, [0, null])
  t.equal(clean.report.exitCode, 0)
  t.ok(clean.said.includes('closed'))

  const started = await start(t, 'other-closers', { code: 3 })
  await fetch(`${started.url}/start`)
  t.same(await started.ended, [0, null])
  t.match(started.report, { reason: 'operator', exitCode: 0 })
})

t.test('a process.exit() during a stop never improves the exit code', async t => {
  const program = await start(t, 'other-closers', { by: 'flushInClosing', code: 0 })
  const answer = fetch(`${program.url}/order/1`).catch((error: Error) => error)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('flush')
  t.same(await program.ended, [20, null])
  await answer
  t.equal(program.report.exitCode, 20)
})

t.test('a process.exit() while serving is left alone', async t => {
  const program = await start(t, 'other-closers', { code: 3 })
  await fetch(`${program.url}/exit`).catch(() => {})
  t.same(await program.ended, [3, null])
  t.notOk(program.lines.some(({ drain }) => drain !== undefined))
})

t.test('a handler that raises the signal again after app.close() changes nothing', async t => {
  const program = await start(t, 'other-closers', { by: 'raise', first: true })
  const answer = fetch(`${program.url}/order/1`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  await burstOver()
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.match(program.report, { exitCode: 0, requests: { completed: { count: 1 } } })
})

t.test('a stop that is cut short is logged to a pino file', async t => {
  const file = join(t.testdir(), 'log')
  const program = await cut(t, { file })
  t.same(await program.ended, [20, null])
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n')
  const last = JSON.parse(lines.at(-1) ?? '') as { msg: string, drain: { exitCode: number } }
  t.match(last.msg, cutMessage)
  t.equal(last.drain.exitCode, 20)
})

for (const [how, logger] of [['the logger writes in a worker', { transport: { target: 'pino/file', options: { destination: 1 } } }], ['there is no logger', false]] as const) {
  t.test(`a stop that is cut short is written to stderr where ${how}`, async t => {
    const program = await cut(t, logger)
    t.same(await program.ended, [20, null])
    t.match(program.errors, cutMessage)
    t.equal(program.errors.trimEnd().split('\n').length, 1, 'the report is one line')
  })
}

/** A service that other code ends, with a request in flight. */
async function cut (t: Test, logger: unknown): Promise<Program> {
  const program = await start(t, 'other-closers', { by: 'flush', logger }, 'nothing')
  await program.hears('listening')
  const url = await program.hearsMatch(/^http:/)
  const answer = fetch(`${url}/order/1`).catch((error: Error) => error)
  await program.hears('begun')
  program.kill('SIGTERM')
  t.type(await answer, Error)
  return program
}

t.test('an onClose hook that ends the process does not lose the report', async t => {
  const program = await start(t, 'other-closers', { by: 'onClose exit' })
  const answer = fetch(`${program.url}/order/1`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.match(program.report, { exitCode: 0, requests: { inFlight: 0, completed: { count: 1 } } })
  t.match(program.lines.at(-1)?.msg, /process\.exit\(0\) was called at .*other-closers\.js:\d+/)
})

t.test('an app.close() in onReport or in an onClose hook does not hang the stop', async t => {
  const reporting = await start(t, 'other-closers', { reporting: 'close' })
  reporting.kill('SIGTERM')
  t.same(await reporting.ended, [0, null])
  t.ok(reporting.said.includes('closed in onReport'))
  t.ok(reporting.report.elapsed < 1_000)

  const closing = await start(t, 'other-closers', { by: 'onClose close' })
  closing.kill('SIGTERM')
  t.same(await closing.ended, [0, null])
  t.ok(closing.report.elapsed < 1_000)
})

t.test('other listeners of the signals are named in a warning when the app is ready', async t => {
  const program = await start(t, 'other-closers', { by: 'leave', first: true, once: true })
  const warnings = program.lines.filter(({ msg }) => msg.startsWith('Others listen'))
  t.equal(warnings.length, 1)
  t.match(warnings[0], { level: 40, msg: /SIGTERM: 'leave', SIGTERM: 'leave'.*In your framework.*takeSignals/ })
})

t.test('takeSignals removes other listeners from the process, and logs that', async t => {
  const program = await start(t, 'other-closers', { by: 'leave', first: true, once: true, takeSignals: true })
  t.match(await program.line(/has taken other listeners/), { level: 30, msg: /SIGTERM: 'leave', SIGTERM: 'leave'/ })
  t.notOk(program.lines.some(({ msg }) => msg.startsWith('Others listen')))
  const answer = fetch(`${program.url}/order/1`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
})
