import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { burstOver, start } from './start.ts'
import type { Program } from './start.ts'

// Each of these tests keeps a processor busy.
t.jobs = 2

/** The version of the Node that runs the fixtures: DRAIN_TEST_NODE, or the one that runs the tests. */
const canReplaceItself = 'execve' in process

const deadline = 1_000

/** @returns ms from the signal to the end of the process */
async function stop (program: Program): Promise<number> {
  const signalled = performance.now()
  program.kill('SIGTERM')
  await program.ended
  return performance.now() - signalled
}

for (const by of ['pbkdf2', 'scrypt', 'zlib', 'fs']) {
  t.test(`a request that waits for a busy thread (${by}) does not hold the process beyond its deadline`, async t => {
    const program = await start(t, 'thread-pool', { by, fifo: join(t.testdir(), 'fifo'), deadline })
    const answer = fetch(`${program.url}/busy`).catch((error: Error) => error)
    await program.hears('begun')
    const took = await stop(program)
    t.type(await answer, Error)
    t.ok(took >= deadline && took < deadline + 1_000, `gone after ${Math.round(took)} ms`)
    // Before Node 22.15 nothing but SIGKILL ends it.
    t.same(await program.ended, canReplaceItself ? [20, null] : [null, 'SIGKILL'])
    t.match(program.report, { exitCode: 20, requests: { abandoned: { count: 1 } } })
    t.same(program.said.slice(-2), ['resource closed', 'exit 20'])
  })

  t.test(`a busy thread that no request waits for (${by}) does not hold the process beyond its deadline`, async t => {
    const program = await start(t, 'thread-pool', { by, fifo: join(t.testdir(), 'fifo'), deadline })
    t.equal((await fetch(`${program.url}/background`)).status, 200)
    const took = await stop(program)
    t.ok(took < deadline + 1_000, `gone after ${Math.round(took)} ms`)
    t.same(await program.ended, canReplaceItself ? [0, null] : [null, 'SIGKILL'])
    t.match(program.report, { exitCode: 0, requests: { abandoned: { count: 0 } } })
    t.same(program.said.slice(-2), ['resource closed', 'exit 0'])
  })
}

t.test('a busy thread gets until the deadline to finish, and a second signal after the report changes nothing', async t => {
  const fifo = join(t.testdir(), 'fifo')
  const program = await start(t, 'thread-pool', { by: 'fs', fifo, deadline: 20_000 })
  await fetch(`${program.url}/background`)
  program.kill('SIGTERM')
  await program.line(/^stopped: /)
  await burstOver()
  t.equal(program.child.exitCode, null, 'the process waits for the thread')
  program.kill('SIGTERM')
  await writeFile(fifo, 'x')
  t.same(await program.ended, [0, null])
  t.same(program.said.slice(-2), ['background done', 'exit 0'])
  t.equal(program.report.exitCode, 0)
})

t.test('a second signal ends the process at once, even with busy threads', async t => {
  const program = await start(t, 'thread-pool', { by: 'pbkdf2', deadline: 20_000 })
  const answer = fetch(`${program.url}/busy`).catch((error: Error) => error)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  await burstOver()
  const took = await stop(program)
  await answer
  t.ok(took < 1_000, `gone after ${Math.round(took)} ms`)
  t.same(await program.ended, canReplaceItself ? [22, null] : [null, 'SIGKILL'])
  t.equal(program.report.exitCode, 22)
})

t.test('without a busy thread the process ends at once, by process.exit()', async t => {
  const program = await start(t, 'thread-pool', { deadline: 20_000 })
  const took = await stop(program)
  t.ok(took < 1_000, `gone after ${Math.round(took)} ms`)
  t.same(await program.ended, [0, null])
  t.same(program.said.slice(-2), ['resource closed', 'exit 0'])
})

t.test('a signal after the report ends a process that waits for a busy thread, with the code of the report', { skip: canReplaceItself ? false : 'this Node can only be killed' }, async t => {
  const program = await start(t, 'thread-pool', { by: 'pbkdf2', deadline: 20_000 })
  t.equal((await fetch(`${program.url}/background`)).status, 200)
  program.kill('SIGTERM')
  await program.line(/^stopped: /)
  await burstOver()
  t.ok(await stop(program) < 1_000)
  t.same(await program.ended, [0, null])
})
