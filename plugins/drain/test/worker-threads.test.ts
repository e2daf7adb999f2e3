import { execFileSync } from 'node:child_process'
import t from 'tap'
import { start } from './start.ts'

/** libuv has named its own threads since 1.50. */
function namesThreads (): boolean {
  const version = execFileSync(process.env['DRAIN_TEST_NODE'] ?? process.execPath, ['--print', 'process.versions.uv'], { encoding: 'utf8' })
  return version.localeCompare('1.50.0', 'en', { numeric: true }) >= 0
}

t.test('an app in a worker thread ends that thread with its report', async t => {
  const program = await start(t, 'worker-thread', { appInWorker: true }, 'nothing')
  await program.line('stopping')
  const stopping = performance.now()
  await program.hears('ended with 0')
  const took = performance.now() - stopping
  t.ok(took < 5_000, `in ${Math.round(took)} ms of a deadline of 10,000`)
})

t.test('a worker thread that computes does not hold the exit', { skip: !namesThreads() && 'this Node does not tell its threads apart' }, async t => {
  const program = await start(t, 'worker-thread')
  const asked = performance.now()
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  const took = performance.now() - asked
  t.ok(took < 5_000, `in ${Math.round(took)} ms of a deadline of 10,000`)
})
