import Fastify from 'fastify'
import drain from 'fastify-drain'
import pg from 'pg'
import { test, type Test } from 'tap'
import { loadConfig } from '../../config.ts'
import database from '../../plugins/database.ts'
import errors from '../../plugins/errors.ts'
import metrics from '../../plugins/metrics.ts'
import requestTelemetry from '../../plugins/request-telemetry.ts'
import settings from '../../plugins/settings.ts'
import { createTestDatabase } from '../postgres.ts'

const ways = {
  'a drain': (app: { drain: { start (reason: string): Promise<unknown> } }) => app.drain.start('test'),
  'a plain close()': (app: { close (): PromiseLike<unknown> }) => app.close()
}

/** An application without an intake: a handler that answers before its transaction has committed. */
async function openApp (t: Test) {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale', 'Pint of ale', 520, 'EUR', 10)")

  const app = Fastify()
  await app.register(errors)
  await app.register(requestTelemetry)
  await app.register(metrics, { build: { version: '1', revision: '' } })
  await app.register(settings, { config: loadConfig({}), running: undefined })
  await app.register(database, { url, pool: 5, requestTimeoutMs: 10_000 })
  await app.register(drain, { exit: false, deadline: 10_000 })
  app.post('/interactive', async () => {
    void app.prisma.$transaction(async tx => {
      await tx.product.update({ where: { sku: 'ale' }, data: { stock: { decrement: 1 } } })
      await tx.$queryRaw`SELECT pg_sleep(0.3)::text`
      await tx.product.update({ where: { sku: 'ale' }, data: { stock: { decrement: 1 } } })
    })
    return 'begun'
  })
  app.post('/array', async () => {
    void app.prisma.$transaction([
      app.prisma.$executeRaw`UPDATE products SET stock = stock - 1`,
      app.prisma.$queryRaw`SELECT pg_sleep(0.3)::text`,
      app.prisma.$executeRaw`UPDATE products SET stock = stock - 1`
    ])
    return 'begun'
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => app.close().then(() => {}))
  return { app, address, sql }
}

for (const [way, stop] of Object.entries(ways)) {
  for (const form of ['interactive', 'array']) {
    test(`${way} waits for a transaction that no handler awaits, before the pool closes (${form})`, async t => {
      const { app, address, sql } = await openApp(t)
      t.equal(await (await fetch(`${address}/${form}`, { method: 'POST' })).text(), 'begun')
      await stop(app)
      const { rows } = await sql.query('SELECT stock::int FROM products')
      t.same(rows, [{ stock: 8 }])
    })
  }
}

test('a transaction that fails rejects for its caller, and is no longer tracked', async t => {
  const { app } = await openApp(t)
  await t.rejects(app.prisma.$transaction(async tx => {
    await tx.$executeRaw`UPDATE products SET stock = stock - 1`
    throw new Error('no')
  }), { message: 'no' })
  t.same(app.drain.report().tracked.pending, [])
})
