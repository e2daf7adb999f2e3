import t, { type Test } from 'tap'
import { startApp, type Answer, type RunningApp } from '../app.ts'

const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

t.test('a write that waits for a connection until its time is over was not started, and never is', async t => {
  // A wait for a connection takes a quarter of a request's time, so the last of several is under way when that ends.
  const service = await startApp(t, { settings: { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1', REQUEST_TIMEOUT_MS: '400' } })
  const letGo = await holdConnections(t, service, 2)
  const answers = await Promise.all([
    place(service, 'waits'),
    service.ask('PUT', '/products/mild', { token: service.token('boss', { staff: true }), body: { name: 'Mild', unitPrice: 450, currency: 'EUR', stock: 5 } })
  ])
  for (const { status, body } of answers) t.match([status, body], [503, { type: '/problems/not-started' }])
  await letGo()
  t.equal((await place(service, 'after')).status, 201)
  t.same((await service.sql.query('SELECT idempotency_key AS key FROM orders')).rows, [{ key: 'after' }])
  t.equal((await service.sql.query("SELECT FROM products WHERE sku = 'mild'")).rowCount, 0)
})

async function place ({ ask, token }: RunningApp, key: string): Promise<Answer<unknown>> {
  return await ask('POST', '/orders', { token: token('alice'), body: order, headers: { 'idempotency-key': key } })
}

/** All of the pool, by transactions in which nothing happens. */
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
        // The service's own work has the connection for a moment, and on a busy machine for as long as one waits for it.
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
