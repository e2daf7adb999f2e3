import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { balancerMissing } from '../../verify/balancer.ts'
import { HAProxy } from '../../verify/balancers/haproxy.ts'
import { terminateServices } from '../faults.ts'
import { createTestDatabase } from '../postgres.ts'
import { startService } from '../service.ts'

// HAProxy runs with the configuration of deploy/haproxy, and asks the agent more often.

t.test('HAProxy gives a loaded instance less weight, its whole weight after the load, and no requests from the signal on', { skip: balancerMissing('haproxy-http') ?? false }, async t => {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000)")

  const service = await startService(t, {
    DATABASE_URL: url,
    AGENT_PORT: '0',
    INTAKE_BATCH_MAX: '1',
    INTAKE_IN_FLIGHT: '1',
    DRAIN_MIN_MS: '1000',
    DRAIN_MAX_MS: '1000'
  })
  const agentPort = (JSON.parse(await service.line(/listening for agent checks/)) as { port: number }).port
  const instance = { port: Number(new URL(service.url).port), agentPort }
  const haproxy = await HAProxy.start('http', {
    // All three are the same instance, so that it gets every request whatever its weight is.
    instances: [instance, instance, instance],
    readiness: '/readyz',
    directory: t.testdir()
  }, { AGENT_INTER: '20ms' })
  t.teardown(() => haproxy.close())

  /** Waits until HAProxy's stats socket shows the instance so. */
  async function haproxyShows (isTrue: (server: { status: string, weight: number }) => boolean): Promise<number> {
    for (;;) {
      const [server] = await haproxy.servers()
      if (server !== undefined && isTrue(server)) return performance.now()
      await delay(5)
    }
  }

  await haproxyShows(({ status, weight }) => status === 'UP' && weight > 80)

  await sql.query('BEGIN; SELECT FROM products FOR UPDATE')
  const placed = Array.from({ length: 20 }, (_, n) => fetch(`${haproxy.url}/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token('alice')}`, 'idempotency-key': `waits-${n}`, 'content-type': 'application/json' },
    body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
  }))
  await haproxyShows(({ status, weight }) => status === 'UP' && weight <= 6)
  await sql.query('ROLLBACK')
  t.same(new Set((await Promise.all(placed)).map(({ status }) => status)), new Set([201]), 'every order reached the instance and was placed')
  await haproxyShows(({ weight }) => weight > 80)

  /** Waits until the agent says that the instance drains. */
  async function agentDrains (): Promise<number> {
    for (;;) {
      const socket = connect(agentPort, '127.0.0.1')
      await once(socket, 'connect')
      if (await text(socket) === 'drain\n') return performance.now()
    }
  }
  const seen: string[] = []
  const closing = service.line(/"msg":"closing"/).then(() => seen.push('closing'))
  const signalled = performance.now()
  service.child.kill('SIGTERM')
  const [byAgent, byHAProxy] = await Promise.all([agentDrains(), haproxyShows(({ status }) => status.startsWith('DRAIN'))])
  seen.push('drain')
  await closing
  t.same(seen, ['drain', 'closing'], 'agent and HAProxy tell it while the service still accepts')
  t.comment(`drain ${Math.round(byAgent - signalled)} ms after the signal at the agent's port, and after ${Math.round(byHAProxy - signalled)} ms in HAProxy`)
  t.same(await service.exited, [0, null])
})

t.test('HAProxy takes an instance out while its database takes no writes, and puts it back afterwards', { skip: balancerMissing('haproxy-http') ?? false }, async t => {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  const service = await startService(t, { DATABASE_URL: url, AGENT_PORT: '0' })
  const agentPort = (JSON.parse(await service.line(/listening for agent checks/)) as { port: number }).port
  const instance = { port: Number(new URL(service.url).port), agentPort }
  const haproxy = await HAProxy.start('http', {
    instances: [instance, instance, instance],
    // /livez always succeeds, so only the agent can tell HAProxy.
    readiness: '/livez',
    directory: t.testdir()
  }, { AGENT_INTER: '20ms' })
  t.teardown(() => haproxy.close())
  const isShown = async (status: string): Promise<void> => {
    while (!(await haproxy.servers()).every(server => server.status.startsWith(status))) await delay(5)
  }
  const setReadOnly = async (value: 'on' | 'off'): Promise<void> => {
    await sql.query('SET default_transaction_read_only TO off')
    await sql.query(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only TO ${value}', current_database()); END $$`)
    await terminateServices(sql)
  }

  await haproxy.allUp()
  await setReadOnly('on')
  await isShown('DOWN')
  t.match(await service.line(/The database cannot be written/), /"reason":"its transactions are read-only/)
  await setReadOnly('off')
  await isShown('UP')
  t.equal((await fetch(`${haproxy.url}/readyz`)).status, 200)
  service.child.kill('SIGTERM')
  t.same(await service.exited, [0, null])
})
