import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import { burstOver, start } from './start.ts'

t.test('the report is written to its file before the last line of the log', async t => {
  const reportFile = join(t.testdir(), 'report.json')
  const program = await start(t, 'work', { reportFile })
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.match(JSON.parse(readFileSync(reportFile, 'utf8')), { reason: 'SIGTERM', state: 'closed', exitCode: 0 })
  t.match(program.report.hooks.at(-1), { name: 'reportFile', outcome: 'done' })
})

t.test('the report of a stop that is cut short is written to its file', async t => {
  const reportFile = join(t.testdir(), 'report.json')
  const program = await start(t, 'work', { reportFile })
  fetch(`${program.url}/work`).catch(() => {})
  await program.hears('begun')
  program.kill('SIGTERM')
  await program.line('closing')
  await burstOver()
  program.kill('SIGTERM')
  t.same(await program.ended, [22, null])
  t.match(JSON.parse(readFileSync(reportFile, 'utf8')), { exitCode: 22, requests: { abandoned: { ids: ['req-1'] } } })
})

t.test('a report that cannot be written fails the stop', async t => {
  const reportFile = join(t.testdir(), 'report.json')
  const program = await start(t, 'work', { reportFile })
  mkdirSync(reportFile)
  program.kill('SIGTERM')
  t.same(await program.ended, [21, null])
  t.match(program.report.hooks.at(-1), { name: 'reportFile', outcome: 'failed', error: /EISDIR/ })
})

t.test('a report file in a missing folder, or whose path is a folder, is refused at registration', async t => {
  const folder = t.testdir()
  for (const [reportFile, message] of [[join(folder, 'missing', 'report.json'), /reportFile.*ENOENT/], [folder, /reportFile.*it is a folder/]] as const) {
    await t.rejects(async () => { await Fastify().register(drain, { exit: false, reportFile }) }, { code: 'FST_ERR_DRAIN_OPTION', message })
  }
})
