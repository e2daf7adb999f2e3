import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startApp } from './app.ts'
import { createTestDatabase } from './postgres.ts'
import { spawnService } from './service.ts'

const { url: databaseUrl } = await createTestDatabase(t)

t.test('the report of a stop is written to DRAIN_REPORT_FILE', async t => {
  const file = join(t.testdir(), 'termination-log')
  const { app } = await startApp(t, { databaseUrl, settings: { DRAIN_REPORT_FILE: file } })
  const { startedAt } = await app.drain.start('test')
  t.match(JSON.parse(readFileSync(file, 'utf8')), { state: 'closed', reason: 'test', startedAt, exitCode: 0 })
})

t.test('a DRAIN_REPORT_FILE that cannot be written fails the start, not the stop', async t => {
  const file = join(t.testdir(), 'no folder', 'report.json')
  const service = spawnService(t, { PORT: '0', OPS_PORT: '0', DATABASE_URL: databaseUrl, AUTH_JWT_SECRET: 'a secret for tests, of more than thirty-two bytes', DRAIN_REPORT_FILE: file })
  t.same(await service.exited, [1, null])
  t.match(service.lines.join('\n'), `${file}', which cannot be written to: ENOENT`)
})
