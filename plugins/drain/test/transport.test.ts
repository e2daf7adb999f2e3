import t from 'tap'
import type { Test } from 'tap'
import { start } from './start.ts'
import type { Program } from './start.ts'

t.jobs = 3

/** A service whose worker has not yet written the log of some requests: two lines each. */
async function behind (t: Test, requests: number, options: object = {}): Promise<Program> {
  const program = await start(t, 'transport', options)
  await Promise.all(Array.from({ length: requests }, () => fetch(program.url)))
  return program
}

function reports (program: Program): unknown[] {
  return program.lines.flatMap(({ drain }) => drain === undefined ? [] : [drain.exitCode])
}

t.test('a slow pino worker writes the report before the process ends', async t => {
  const program = await behind(t, 20)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.same(reports(program), [0])
  t.equal(program.lines.filter(({ msg }) => msg === 'request completed').length, 20, 'the worker has written all lines before the report')
  t.match(program.lines.at(-1)?.msg, /^(stopped: |end of the log)/)
})

t.test('a pino worker that is seconds behind has until the deadline', async t => {
  const program = await behind(t, 100)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.same(reports(program), [0])
  t.equal(program.lines.filter(({ msg }) => msg === 'request completed').length, 100, 'no line is lost')
})

t.test('a slow pino worker writes the report of a stop that abandons requests', async t => {
  const program = await behind(t, 20, { deadline: 1_000 })
  const answer = fetch(`${program.url}/work`).catch((error: Error) => error)
  await program.hears('begun')
  program.kill('SIGTERM')
  t.same(await program.ended, [20, null])
  t.type(await answer, Error)
  t.same(reports(program), [20])
})

t.test('a pino worker that hangs holds the process only until shortly after its deadline', async t => {
  const program = await start(t, 'transport', { stuckAt: 'incoming request', deadline: 2_000 })
  await fetch(program.url)
  // Nothing shows that it hangs.
  await new Promise(resolve => setTimeout(resolve, 200))
  const signalled = performance.now()
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  const took = performance.now() - signalled
  t.ok(took < 3_500, `gone after ${Math.round(took)} ms`)
})
