import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp, type Answer, type RunningApp } from '../app.ts'
import { terminateServices } from '../faults.ts'
import { allowConnections } from '../postgres.ts'

const { app, ask, sql, token, databaseUrl } = await startApp(t, { settings: { DRAIN_MIN_MS: '1500', DRAIN_MAX_MS: '1500' } })

t.test('the public probes of a started service answer ok, and tell nothing more', async t => {
  for (const path of ['/livez', '/startupz', '/readyz']) {
    const { status, text } = await ask('GET', path)
    t.same([status, text], [200, '{"status":"ok"}'], path)
    t.equal((await ask('HEAD', path)).status, 200)
  }
  t.equal((await ask('GET', '/readyz?verbose')).text, '{"status":"ok"}')
})

t.test('a service that loses its database stays alive but is not ready until the database is back', async t => {
  await allowConnections(databaseUrl, false)
  await terminateServices(sql)
  const unready = await readyzUntil(ask, 503)
  t.equal(unready.text, '{"status":"unavailable"}', 'the public probe does not say why')
  t.equal((await ask('GET', '/livez')).status, 200)
  await allowConnections(databaseUrl, true)
  t.equal((await readyzUntil(ask, 200)).status, 200)
})

t.test('a service that drains is not ready, is alive, and goes on serving', async t => {
  const stopped = app.drain.start('test')
  const draining = await ask('GET', '/readyz')
  t.same([draining.status, draining.text], [503, '{"status":"unavailable"}'])
  t.equal((await ask('GET', '/livez')).status, 200)
  t.equal((await ask('GET', '/startupz')).status, 200)
  const order = await ask('POST', '/orders', {
    token: token('alice'),
    body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] },
    headers: { 'idempotency-key': randomUUID() }
  })
  t.equal(order.status, 201)
  t.match(await stopped, { exitCode: 0, requests: { abandoned: { count: 0 } } })
})

async function readyzUntil (ask: RunningApp['ask'], status: number): Promise<Answer<unknown>> {
  for (;;) {
    const answer = await ask('GET', '/readyz')
    if (answer.status === status) return answer
  }
}
