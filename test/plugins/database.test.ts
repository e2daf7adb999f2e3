import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Prisma } from '#prisma'
import { startApp, type Answer, type RunningApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

t.test('a write that waits for a connection until its time is over is not started, and never runs', async t => {
  // A wait for a connection takes a quarter of a request's time, so the last of several is under way when that ends.
  const service = await startApp(t, { settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1', REQUEST_TIMEOUT_MS: '1000' } })
  const release = await holdConnections(t, service, 2)
  const answers = await Promise.all([
    place(service, 'waits'),
    service.ask('PUT', '/products/mild', { token: service.token('boss', { staff: true }), body: { name: 'Mild', unitPrice: 450, currency: 'EUR', stock: 5 } })
  ])
  for (const { status, body } of answers) t.match([status, body], [503, { type: '/problems/not-started' }])
  await release()
  t.equal((await place(service, 'after')).status, 201)
  t.same((await service.sql.query('SELECT idempotency_key AS key FROM orders')).rows, [{ key: 'after' }])
  t.equal((await service.sql.query("SELECT FROM products WHERE sku = 'mild'")).rowCount, 0)
})

t.test('each connection prepares the statements of the hot path once, and no other', async t => {
  const service = await startApp(t, { settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1' } })
  const { app, ask, token } = service
  for (let n = 0; n < 3; n++) {
    const { body: { id } } = await place(service, `order-${n}`)
    await ask('POST', `/orders/${id}/pay`, { token: token('alice') })
    await ask('POST', `/orders/${id}/cancel`, { token: token('alice') })
  }
  // At the same time, so that each is on a connection of its own.
  const both = await Promise.all([1, 2].map(async () => await app.database.execute<{ name: string }>(Prisma.sql`SELECT name FROM pg_sleep(0.2), pg_prepared_statements`)))
  const names = both.map(({ rows }) => rows.map(({ name }) => name))
  t.same([...new Set(names.flat())].sort(), ['begin_payment', 'move_order', 'place_orders', 'settle_payment'])
  for (const onOne of names) t.equal(new Set(onOne).size, onOne.length)
})

t.test('a connection that Postgres ends just as a transaction gets it fails that transaction, and not the process', async t => {
  const { url } = await createTestDatabase(t)
  const proxy = await startEndingProxy(t, url)
  const { app: { database, prisma }, sql } = await startApp(t, { databaseUrl: proxy.url, connectTo: url, settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1', REQUEST_TIMEOUT_MS: '60000', DRAIN_DEADLINE_MS: '70000' } })
  await sql.query('SELECT pg_advisory_lock(1)')
  const held = Array.from({ length: 2 }, async () => await prisma.$queryRaw`SELECT 1 AS one FROM pg_advisory_lock_shared(1)`)
  while ((await sql.query("SELECT FROM pg_locks JOIN pg_database ON oid = database WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted")).rowCount !== 2) await delay(5)
  // Handled from the start: one may fail before the last held connection is free.
  const transactions = Promise.allSettled(Array.from({ length: 2 }, async () => await prisma.$transaction(async transaction => await transaction.$queryRaw`SELECT 1`, { maxWait: 60_000 })))
  while (database.pool.waiting < 2) await delay(5)

  proxy.endsConnections = true
  await sql.query('SELECT pg_advisory_unlock(1)')
  await Promise.all(held)
  for (const { status } of await transactions) t.equal(status, 'rejected')
  proxy.endsConnections = false
  t.same(await prisma.$queryRaw`SELECT 1 AS one`, [{ one: 1 }])
})

/** A proxy in front of Postgres that can put "57P01, terminating connection" right behind an answer: pg reads both before anything else runs. */
async function startEndingProxy (t: Test, url: string): Promise<{ url: string, endsConnections: boolean }> {
  const readyForQuery = Buffer.from('5a0000000549', 'hex')
  const fields = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0')
  const terminated = Buffer.concat([Buffer.from('E'), Buffer.alloc(4), fields])
  terminated.writeUInt32BE(fields.length + 4, 1)
  const through = new URL(url)
  const { hostname, port, searchParams } = through
  const socket = searchParams.get('host')
  searchParams.delete('host')
  const server = createServer({ noDelay: true }, client => {
    const postgres = socket === null ? connect(Number(port), hostname) : connect(`${socket}/.s.PGSQL.${port}`)
    client.pipe(postgres).on('error', () => client.destroy())
    client.on('error', () => postgres.destroy()).on('close', () => postgres.destroy())
    postgres.on('data', answer => {
      const ends = proxy.endsConnections && answer.subarray(-readyForQuery.length).equals(readyForQuery)
      client.write(ends ? Buffer.concat([answer, terminated]) : answer)
      if (ends) client.end()
    }).on('close', () => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  through.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const proxy = { url: through.href, endsConnections: false }
  return proxy
}

async function place ({ ask, token }: RunningApp, key: string): Promise<Answer<{ id: string }>> {
  return await ask('POST', '/orders', { token: token('alice'), body: order, headers: { 'idempotency-key': key } })
}

/** Takes connections of the pool for transactions that do nothing. */
async function holdConnections (t: Test, { app }: RunningApp, count: number): Promise<() => Promise<unknown>> {
  const released = Promise.withResolvers<void>()
  t.teardown(() => released.resolve())
  const begun: Array<Promise<unknown>> = []
  const ended = Array.from({ length: count }, async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>()
    begun.push(promise)
    for (let isBegun = false; !isBegun;) {
      await app.prisma.$transaction(async transaction => {
        await transaction.$queryRaw`SELECT 1`
        isBegun = true
        resolve(undefined)
        await released.promise
      }).catch((error: unknown) => {
        // The service's own work may have the connection, on a busy machine for longer than the wait lasts.
        if (isBegun) throw error
      })
    }
  })
  await Promise.all(begun)
  return async () => {
    released.resolve()
    await Promise.all(ended)
  }
}
