import t from 'tap'
import { start } from './start.ts'
import type { Program } from './start.ts'

function origin (program: Program, name: string): string {
  const said = program.said.find(word => typeof word === 'string' && word.startsWith(`${name} http`))
  return String(said).split(' ')[1] ?? ''
}

t.test('two apps of one process stop together, and the process exits when both have reported', async t => {
  const program = await start(t, 'several')
  const answers = [fetch(`${origin(program, 'first')}/work`), fetch(`${origin(program, 'second')}/work`)]
  await program.hears('begun', 2)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish first')
  await program.hears('first closed')
  program.tell('finish second')
  for (const answer of answers) t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.equal(program.lines.filter(({ drain }) => drain !== undefined).length, 2)
})

t.test('the process exits with the worst code of its apps', async t => {
  const program = await start(t, 'several')
  const answers = [fetch(`${origin(program, 'first')}/work`), fetch(`${origin(program, 'second')}/work`).catch(() => undefined)]
  await program.hears('begun', 2)
  program.kill('SIGTERM')
  await program.line('closing')
  program.tell('finish first')
  t.same(await program.ended, [20, null])
  await Promise.all(answers)
  t.same(program.lines.filter(({ drain }) => drain !== undefined).map(({ drain }) => drain?.exitCode).sort(), [0, 20])
})

t.test('an app that was closed earlier leaves the signals to the other apps', async t => {
  const program = await start(t, 'several')
  program.tell('close second')
  await program.hears('closed')
  const answer = fetch(`${origin(program, 'first')}/work`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('stopping')
  program.tell('finish first')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
})

t.test('an app that closes another one in its onClose hook does not wait for itself', async t => {
  const program = await start(t, 'several', { nested: true, deadline: 5_000 })
  const answer = fetch(`${origin(program, 'second')}/work`)
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing', 2)
  program.tell('finish second')
  t.equal((await answer).status, 200)
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed < 2_000, `in ${program.report.elapsed} ms`)
})
