import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { migrate } from '../prisma/migrate.ts'
import { Cluster } from '../verify/postgres/cluster.ts'
import { startApp, type Answer, type RunningApp } from './app.ts'
import { pgbouncerMissing, startPgBouncer } from './pgbouncer.ts'

// PgBouncer in transaction mode, as Debian has it: 1.18, which keeps no prepared statements.

const skip = pgbouncerMissing

t.test('an order gets not-started while PgBouncer reaches no server', { skip }, async t => {
  const { cluster, service } = await startBehindPgBouncer(t, { REQUEST_TIMEOUT_MS: '2000' })
  t.equal((await place(service)).status, 201)
  await cluster.primary.stop()
  // The first order may still meet PgBouncer's broken connections.
  await place(service)
  const { status, body } = await place(service)
  t.match([status, body], [503, { type: '/problems/not-started' }])
  await cluster.recover()
  while ((await place(service)).status !== 201);
})

t.test('behind a PgBouncer without prepared statements, every order is placed, and its event is deleted after the retention time', { skip }, async t => {
  const { service } = await startBehindPgBouncer(t, { INTAKE_BATCH_MAX: '1', OUTBOX_RETENTION_MS: '100' })
  const answers = await Promise.all(Array.from({ length: 100 }, () => place(service)))
  t.same(new Set(answers.map(({ status }) => status)), new Set([201]))
  t.match(await service.app.metrics.render(), /^database_write_failures_total\{failure="unknown"\} 0$/m)
  while ((await service.sql.query('SELECT FROM outbox')).rowCount !== 0);
})

async function startBehindPgBouncer (t: Test, settings: Record<string, string>): Promise<{ cluster: Cluster, service: RunningApp }> {
  const cluster = await Cluster.create({ log: join(t.testdir(), 'postgres.log') })
  t.teardown(() => cluster.close())
  await migrate({ url: cluster.url })
  await cluster.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000)", [], cluster.database)
  const { url } = await startPgBouncer(t, cluster.url)
  return { cluster, service: await startApp(t, { databaseUrl: url, connectTo: cluster.url, settings }) }
}

async function place ({ ask, token }: RunningApp): Promise<Answer<unknown>> {
  return await ask('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
}
