import { randomUUID } from 'node:crypto'
import { connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../config.ts'
import { buildOps } from '../ops.ts'
import { openAgent } from '../plugins/agent-check.ts'
import { migrate } from '../prisma/migrate.ts'
import { requireServer } from '../prisma/writable.ts'
import { findBinaries } from '../postgres/binaries.ts'
import { Cluster } from '../verify/postgres/cluster.ts'
import { startAddress } from './address.ts'
import { secret, startApp, type Answer, type RunningApp } from './app.ts'
import { serviceWaitsForLock, terminateServices } from './faults.ts'
import { binariesIn, debianPostgres } from './postgres.ts'
import { spawnService } from './service.ts'

// Each test changes a whole server, so each has a Postgres of its own. `onEach` is for what may depend on the version.

/** An unknown outcome takes REQUEST_TIMEOUT_MS; not-started must come much sooner. */
const soonMs = 4_000

const debian = binariesIn(debianPostgres)
type Binaries = () => { initdb: string, postgres: string }

interface Problem { type: string, detail: string }

onEach('a write gets not-started while transactions are read-only, and readiness says why', async (t, binaries) => {
  const { cluster, service, agent, readyz } = await startOnCluster(t, { binaries })
  const { body: { id } } = await place<{ id: string }>(service)
  await cluster.primary.configure({ default_transaction_read_only: 'on' })
  await until(async () => (await cluster.primary.query<{ value: string }>("SELECT current_setting('default_transaction_read_only') AS value"))[0]?.value === 'on')

  await isNotStarted(t, () => place<Problem>(service), 'an order')
  await isNotStarted(t, () => service.ask<Problem>('POST', `/orders/${id}/pay`, { token: service.token('alice') }), 'a transition')
  await isNotStarted(t, () => putProduct(service), 'a product')
  t.equal((await service.ask('GET', `/orders/${id}`, { token: service.token('alice') })).status, 200, 'a stored order can still be read')

  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  t.match(await readyz(), /^\[-\]database failed: its transactions are read-only \(default_transaction_read_only\)$/m)
  t.equal(await agent(), 'ready down #database: its transactions are read-only (default_transaction_read_only)\n')
  t.equal((await service.ask('GET', '/livez')).status, 200)
  t.match(await service.app.metrics.render(), /^database_write_failures_total\{failure="denied"\} [1-9]/m)
  t.match(await service.app.metrics.render(), /^database_write_failures_total\{failure="unknown"\} 0$/m)

  await cluster.primary.configure({ default_transaction_read_only: 'off' })
  await until(async () => (await service.ask('GET', '/readyz')).status === 200)
  t.match(await agent(), /^ready up \d+%\n$/)
  t.equal((await place(service)).status, 201)
})

onEach('a write to a standby gets not-started until the standby is promoted', async (t, binaries) => {
  const { cluster, service, readyz, lead } = await startOnCluster(t, { binaries })
  await cluster.addStandby()
  const { body: { id } } = await place<{ id: string }>(service)
  const standby = cluster.standby
  if (standby === undefined) throw new Error('There is no standby.')
  lead(standby.port)
  await endSessions(service)
  await isNotStarted(t, () => place<Problem>(service), 'an order')
  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  t.match(await readyz(), /^\[-\]database failed: it is a standby \(in recovery\)$/m)
  t.equal((await service.ask('GET', `/orders/${id}`, { token: service.token('alice') })).status, 200)

  await cluster.failOver()
  await until(async () => (await service.ask('GET', '/readyz')).status === 200)
  t.equal((await place(service)).status, 201)
})

t.test('a pool full of sessions with a demoted primary moves to the promoted standby once the address leads there', async t => {
  const { cluster, service, lead } = await startOnCluster(t)
  await cluster.addStandby()
  // This many requests at once open every connection of the pool.
  await Promise.all(Array.from({ length: 20 }, () => service.ask('GET', '/products', { token: service.token('alice') })))
  const { primary, standby } = cluster
  if (standby === undefined) throw new Error('There is no standby.')
  await primary.configure({ default_transaction_read_only: 'on', synchronous_standby_names: '' })
  await until(async () => (await primary.query<{ value: string }>("SELECT current_setting('default_transaction_read_only') AS value"))[0]?.value === 'on')
  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  await standby.query('SELECT pg_promote()')
  lead(standby.port)
  await until(async () => (await service.ask('GET', '/readyz')).status === 200)
  await until(async () => (await place(service, 'again')).status === 201)
  t.same(await standby.query('SELECT count(*)::int FROM orders', [], cluster.database), [{ count: 1 }])
})

t.test('the service refuses to start on a standby or a read-only database, and says why', async t => {
  const cluster = await createCluster(t, findBinaries)
  await cluster.addStandby()
  await migrate({ url: cluster.url })
  const standby = cluster.standby
  if (standby === undefined) throw new Error('There is no standby.')
  await until(async () => (await standby.query("SELECT to_regclass('stops') AS found", [], cluster.database))[0]?.found === 'stops')
  for (const MIGRATE_ON_START of ['true', 'false']) {
    await stopsWith(t, { DATABASE_URL: cluster.urlAt(standby.port), MIGRATE_ON_START }, /^The database at \S+ cannot be written: it is a standby \(in recovery\)\. Nothing was applied or started\. Let DATABASE_URL lead to the primary/m)
  }
  await standby.query('SELECT pg_promote()')
  await standby.query('CREATE DATABASE empty')
  await standby.query('ALTER DATABASE empty SET default_transaction_read_only = on')
  await stopsWith(t, { DATABASE_URL: standby.url('empty') }, /^The database at \S+ cannot be written: its transactions are read-only/m)
})

t.test('a PostgreSQL before 14 is refused with the reason, and 14 is accepted', async t => {
  const version = (number: number, name: string) => async (): Promise<unknown[]> => [{ number, name }]
  await t.rejects(requireServer('postgresql://me:hush@db/orders', version(130_022, '13.22')), {
    code: 'too-old',
    message: /^The database at postgresql:\/\/me:\*\*\*@db\/orders is PostgreSQL 13\.22, and the service needs 14 or later\. Nothing was applied or started\. Upgrade/
  })
  await requireServer('postgresql://db/orders', version(140_000, '14.0'))
})

t.test('a write without a right gets not-started, and readiness and the start name the right', async t => {
  const { cluster, service, readyz, role } = await startOnCluster(t, { asRole: true })
  t.equal((await place(service)).status, 201)
  await cluster.primary.query(`REVOKE INSERT ON orders FROM ${role}`, [], cluster.database)
  await isNotStarted(t, () => place<Problem>(service), 'an order')
  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  t.match(await readyz(), /^\[-\]database failed: its role lacks INSERT on orders$/m)
  await stopsWith(t, { DATABASE_URL: service.databaseUrl }, /cannot be written: its role lacks INSERT on orders\./)
  await cluster.primary.query(`GRANT INSERT ON orders TO ${role}`, [], cluster.database)
  t.equal((await place(service)).status, 201)
})

t.test('a write gets not-started once the password of the database has changed', async t => {
  const { cluster, service, readyz, role } = await startOnCluster(t, { asRole: true })
  await cluster.primary.query(`ALTER ROLE ${role} PASSWORD 'another'`)
  await endSessions(service)
  await isNotStarted(t, () => place<Problem>(service), 'an order')
  await isNotStarted(t, () => putProduct(service), 'a product')
  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  t.match(await readyz(), /^\[-\]database failed: password authentication failed for user "visitor"$/m)
  await cluster.primary.query(`ALTER ROLE ${role} PASSWORD 'hush'`)
  t.equal((await place(service)).status, 201)
})

t.test('a write to a dropped database gets not-started', async t => {
  const { cluster, service, readyz } = await startOnCluster(t)
  await cluster.primary.query(`DROP DATABASE ${cluster.database} WITH (FORCE)`)
  await isNotStarted(t, () => place<Problem>(service), 'an order')
  await until(async () => (await service.ask('GET', '/readyz')).status === 503)
  t.match(await readyz(), /^\[-\]database failed: database "orders" does not exist$/m)
})

onEach('an order waits while Postgres takes no connections, and gets not-started if that takes too long', async (t, binaries) => {
  const { cluster, service, role } = await startOnCluster(t, { binaries, asRole: true, settings: { REQUEST_TIMEOUT_MS: '1500' } })
  await cluster.primary.query(`ALTER ROLE ${role} CONNECTION LIMIT 0`)
  await endSessions(service)
  await isNotStarted(t, () => place<Problem>(service), 'too many connections (53300)')
  const waiting = place(service)
  await delay(100)
  await cluster.primary.query(`ALTER ROLE ${role} CONNECTION LIMIT -1`)
  t.equal((await waiting).status, 201)

  // A smart shutdown refuses new sessions, and lets open ones such as this test's go on.
  const { rows: [postmaster] } = await service.sql.query<{ pid: string }>("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid")
  process.kill(Number(postmaster?.pid), 'SIGTERM')
  await until(async () => await cluster.primary.query('SELECT 1').then(() => false, error => error.code === '57P03'))
  await endSessions(service)
  await isNotStarted(t, () => place<Problem>(service), 'shutting down (57P03)')
  await isNotStarted(t, () => putProduct(service), 'a product')
})

t.test('an order that a shutdown of Postgres interrupts is settled after the recovery, and stored once', async t => {
  // The longest wait for a lock is a fifth of this. It must outlast the shutdown, even on a busy machine.
  const { cluster, service } = await startOnCluster(t, { settings: { REQUEST_TIMEOUT_MS: '20000' }, postgres: { max_prepared_transactions: '1' } })
  // A prepared transaction holds its lock through the shutdown. A session loses it, sometimes so early that the order still commits.
  await cluster.primary.query("BEGIN; SELECT FROM products FOR UPDATE; PREPARE TRANSACTION 'holder'", undefined, cluster.database)
  const placed = place(service)
  await serviceWaitsForLock(service.sql)
  await cluster.primary.stop('fast')
  await cluster.recover()
  await cluster.primary.query("ROLLBACK PREPARED 'holder'", undefined, cluster.database)
  t.equal((await placed).status, 201)
  t.same(await cluster.primary.query('SELECT count(*)::int FROM orders', [], cluster.database), [{ count: 1 }])
  t.match(await service.app.metrics.render(), /^database_write_failures_total\{failure="unknown"\} [1-9]/m)
})

/** Runs the test on the embedded Postgres, and on Debian's if that is installed. */
function onEach (name: string, run: (t: Test, binaries: Binaries) => Promise<void>): void {
  t.test(`${name} (the embedded Postgres)`, async t => await run(t, findBinaries))
  t.test(`${name} (PostgreSQL 15)`, { skip: debian === undefined && "Debian's postgresql-15 is not installed" }, async t => await run(t, () => debian ?? findBinaries()))
}

async function createCluster (t: Test, binaries: Binaries, settings: Record<string, string> = {}): Promise<Cluster> {
  const cluster = await Cluster.create({ postgres: { binaries, settings }, log: join(t.testdir(), 'postgres.log') })
  t.teardown(() => cluster.close())
  return cluster
}

/** Starts the service on a cluster of its own. It connects through an address that `lead` can point elsewhere. */
async function startOnCluster (t: Test, {
  binaries = findBinaries,
  asRole = false,
  settings = {},
  postgres = {}
}: { binaries?: Binaries, asRole?: boolean, settings?: Record<string, string>, postgres?: Record<string, string> } = {}) {
  const cluster = await createCluster(t, binaries, postgres)
  await migrate({ url: cluster.url })
  await cluster.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000)", [], cluster.database)
  const role = 'visitor'
  await cluster.primary.query(`CREATE ROLE ${role} LOGIN PASSWORD 'hush'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ${role}`, undefined, cluster.database)

  const address = await startAddress(t, cluster.primary.port)
  const url = new URL(cluster.urlAt(address.port))
  if (asRole) [url.username, url.password] = [role, 'hush']
  const service = await startApp(t, { databaseUrl: url.href, settings, connectTo: cluster.url })
  const ops = await buildOps({ app: service.app, config: { ops: { host: '127.0.0.1', port: 0, token: undefined } }, logger: pino({ level: 'silent' }) })
  t.teardown(() => ops.close())
  const server = await openAgent({ app: service.app, config: loadConfig({ AGENT_PORT: '0' }) })
  t.teardown(() => { server.close() })
  return {
    cluster,
    service,
    role,
    lead: address.lead,
    readyz: async () => (await ops.inject('/readyz?verbose')).body,
    agent: async () => await text(connect((server.address() as AddressInfo).port, '127.0.0.1'))
  }
}

async function place<Body = unknown> ({ ask, token }: RunningApp, key: string = randomUUID()): Promise<Answer<Body>> {
  return await ask<Body>('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': key } })
}

async function putProduct ({ ask, token }: RunningApp): Promise<Answer<Problem>> {
  return await ask<Problem>('PUT', `/products/${randomUUID()}`, { token: token('boss', { staff: true }), body: { name: 'Mild', unitPrice: 450, currency: 'EUR', stock: 5 } })
}

async function isNotStarted (t: Test, write: () => Promise<Answer<Problem>>, what: string, withinMs = soonMs): Promise<void> {
  const begun = performance.now()
  const { status, body } = await write()
  t.match([status, body], [503, { type: '/problems/not-started', detail: /Nothing was stored; the same request may be sent again\.$/ }], what)
  const tookMs = performance.now() - begun
  t.ok(tookMs < withinMs, `${what}: after ${Math.round(tookMs)} ms`)
}

async function stopsWith (t: Test, env: Record<string, string>, words: RegExp): Promise<void> {
  const service = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, ...env })
  const [code] = await service.exited
  const output = service.lines.filter(line => !line.startsWith('{')).join('\n')
  t.equal(code, 1, output)
  t.match(output, words)
  t.notMatch(output, /hush|\n {4}at /, 'no secret and no stack')
}

/**
 * Ends the service's sessions, and returns when the pool has noticed: a statement on a session that ends has an unknown outcome.
 * It looks repeatedly, because a session that is being opened shows only later.
 */
async function endSessions ({ app, sql }: RunningApp): Promise<void> {
  await until(async () => {
    await terminateServices(sql)
    return app.database.pool.open === 0
  })
}

async function until (isTrue: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 30_000
  while (!await isTrue()) {
    if (performance.now() > giveUpAt) throw new Error(`This has not become true within 30 s: ${String(isTrue)}`)
    await delay(20)
  }
}
