import { randomUUID } from 'node:crypto'
import { expectCleanStop } from 'fastify-drain/test'
import pg from 'pg'
import { test } from 'tap'
import { signToken } from '../auth/local-token.ts'
import { createTestDatabase } from './postgres.ts'

test('no client behind a balancer notices that the service stops', async t => {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 2000000000)")

  const secret = 'a secret for tests, of more than thirty-two bytes'
  const authorization = `Bearer ${signToken({ secret, sub: 'alice' })}`
  const account = await expectCleanStop({
    command: [process.execPath, 'server.ts'],
    cwd: new URL('..', import.meta.url).pathname,
    env: { DATABASE_URL: url, AUTH_JWT_SECRET: secret, PORT: '0', OPS_PORT: '0', LOG_LEVEL: 'info', DRAIN_MIN_MS: '2000', DRAIN_QUIET_MS: '0', DRAIN_MAX_MS: '2000' },
    ready: /^ {2}API {3}(\S+)/,
    url: '/orders',
    balancer: { readiness: '/readyz', interval: 100, fall: 2 },
    request: () => ({
      method: 'POST',
      headers: { authorization, 'idempotency-key': randomUUID(), 'content-type': 'application/json' },
      body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
    }),
    accepts: status => status === 201
  })

  t.ok(account.after.answered > 0, `${account.before.answered} orders were answered before the signal, ${account.after.answered} after it`)
  const { rowCount } = await sql.query('SELECT FROM orders')
  t.equal(rowCount, account.statuses['201'], 'every acknowledged order is stored, and no other')
})
