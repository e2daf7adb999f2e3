import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp, type Answer, type RunningApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

t.test('a write that waits for a connection until its time is over is not started, and never runs', async t => {
  // A wait for a connection takes a quarter of a request's time, so the last of several is under way when that ends.
  const service = await startApp(t, { settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1', REQUEST_TIMEOUT_MS: '400' } })
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

t.test('a connection that Postgres ends just as a transaction gets it fails that transaction, and not the process', async t => {
  const { url } = await createTestDatabase(t)
  const { throughUrl, endAfterNextAnswer } = await startEndingProxy(t, url)
  const service = await startApp(t, { databaseUrl: throughUrl, connectTo: url, settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1' } })
  const sleeps = Array.from({ length: 2 }, async () => await service.app.prisma.$queryRaw`SELECT 1 FROM pg_sleep(0.5)`)
  while ((await service.sql.query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")).rowCount !== 2) await delay(5)
  const transactions = Array.from({ length: 2 }, async () => await service.app.prisma.$transaction(async transaction => await transaction.$queryRaw`SELECT 1`))
  while (service.app.database.pool.waiting < 2) await delay(5)
  endAfterNextAnswer(2)
  await Promise.all(sleeps)
  // The service's own work may have had one of the two connections.
  t.ok((await Promise.allSettled(transactions)).some(({ status }) => status === 'rejected'))
  t.same(await service.app.prisma.$queryRaw`SELECT 1 AS one`, [{ one: 1 }])
})

/** A proxy in front of Postgres that can put "57P01, terminating connection" right behind an answer: pg reads both before anything else runs. */
async function startEndingProxy (t: Test, url: string): Promise<{ throughUrl: string, endAfterNextAnswer: (times: number) => void }> {
  const readyForQuery = Buffer.from('5a0000000549', 'hex')
  const fields = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0')
  const terminated = Buffer.concat([Buffer.from('E'), Buffer.alloc(4), fields])
  terminated.writeUInt32BE(fields.length + 4, 1)
  let left = 0
  const through = new URL(url)
  const { hostname, port, searchParams } = through
  const socket = searchParams.get('host')
  searchParams.delete('host')
  const proxy = createServer({ noDelay: true }, client => {
    const server = socket === null ? connect(Number(port), hostname) : connect(`${socket}/.s.PGSQL.${port}`)
    client.pipe(server).on('error', () => client.destroy())
    client.on('error', () => server.destroy()).on('close', () => server.destroy())
    server.on('data', answer => {
      const ends = left > 0 && answer.subarray(-readyForQuery.length).equals(readyForQuery)
      if (ends) left--
      client.write(ends ? Buffer.concat([answer, terminated]) : answer)
      if (ends) client.end()
    }).on('close', () => client.destroy())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => proxy.close())
  through.host = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
  return { throughUrl: through.href, endAfterNextAnswer: times => { left = times } }
}

async function place ({ ask, token }: RunningApp, key: string): Promise<Answer<unknown>> {
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
