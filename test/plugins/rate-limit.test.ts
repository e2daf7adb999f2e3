import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp, type RunningApp } from '../app.ts'
import { valueOf } from '../exposition.ts'
import { freePort } from '../../verify/free-port.ts'
import { redisMissing, startRedis } from '../redis.ts'

t.test('each instance counts by itself if no store is set', async t => {
  const [first, second] = await startTwo(t, { RATE_LIMIT: '3' })
  for (const instance of [first, second]) t.same(await statusesOf(instance, 4), [200, 200, 200, 429])
})

t.test('instances share their counts through a store', { skip: redisMissing }, async t => {
  const redis = await startRedis(t)

  t.test('all instances count a customer together, and each customer apart, without probes', async t => {
    const [first, second] = await startTwo(t, { RATE_LIMIT: '4', RATE_LIMIT_STORE: redis.url })
    t.same(await statusesOf(first, 2), [200, 200])
    t.same(await statusesOf(second, 3), [200, 200, 429])
    const { status, headers, body } = await first.ask('GET', '/products', { token: first.token('alice') })
    t.equal(status, 429)
    t.match(body, { type: '/problems/rate-limited', detail: /Nothing was stored/ })
    t.ok(Number(headers['retry-after']) > 0 && Number(headers['retry-after']) <= 60)
    t.equal((await first.ask('GET', '/products', { token: first.token('bob') })).status, 200)
    for (let n = 0; n < 6; n++) t.equal((await second.ask('GET', '/livez')).status, 200)
    t.equal(valueOf(await first.app.metrics.render(), 'rate_limit_store_up'), 1)
  })

  t.test('an instance whose store is away counts by itself and says so once, until the store is back', async t => {
    const lines: Line[] = []
    const own = await startRedis(t)
    const [first] = await startTwo(t, { RATE_LIMIT: '5', RATE_LIMIT_STORE: own.url }, lines)
    t.same(await statusesOf(first, 2), [200, 200])
    await own.kill()
    t.same(await statusesOf(first, 4), [200, 200, 200, 429], 'its own count goes on')
    t.same(lines.filter(line => /rate limit/.test(line.msg)).map(line => line.level), [40], 'one warning')
    const metrics = await first.app.metrics.render()
    t.equal(valueOf(metrics, 'rate_limit_store_up'), 0)
    t.ok((valueOf(metrics, 'rate_limit_counted_alone_total') ?? 0) >= 4)

    await own.start()
    // As `carol`, whose count does not matter.
    while (valueOf(await first.app.metrics.render(), 'rate_limit_store_up') === 0) {
      await first.ask('GET', '/products', { token: first.token('carol') })
      await delay(20)
    }
    t.same(lines.filter(line => /rate limit/.test(line.msg)).map(line => line.level), [40, 30], 'one line says that the store is back')
    t.same(await statusesOf(first, 1), [200], 'the store counts again, from 0')
  })

  t.test('a store that hangs holds up no request for long', async t => {
    const own = await startRedis(t)
    const [first] = await startTwo(t, { RATE_LIMIT: '5', RATE_LIMIT_STORE: own.url })
    own.hang()
    t.same(await statusesOf(first, 6), [200, 200, 200, 200, 200, 429])
  })

  t.test('an instance starts without its store', async t => {
    const [first] = await startTwo(t, { RATE_LIMIT: '2', RATE_LIMIT_STORE: `redis://127.0.0.1:${await freePort()}` })
    t.same(await statusesOf(first, 3), [200, 200, 429])
  })

  t.test('a stop leaves no connection to the store', async t => {
    const first = await startApp(t, { settings: { RATE_LIMIT: '2', RATE_LIMIT_STORE: redis.url } })
    await statusesOf(first, 1)
    t.equal((await first.app.drain.start('test')).exitCode, 0)
    t.equal((await first.sql.query('SELECT FROM stops WHERE leaked_sockets > 0 OR leaked_handles > 0')).rowCount, 0)
  })
})

interface Line { level: number, msg: string }

async function startTwo (t: Test, settings: Record<string, string>, lines: Line[] = []): Promise<[RunningApp, RunningApp]> {
  const first = await startApp(t, { settings, log: { write: (line: string) => { lines.push(JSON.parse(line)) } } })
  return [first, await startApp(t, { settings, databaseUrl: first.databaseUrl })]
}

async function statusesOf ({ ask, token }: RunningApp, requests: number): Promise<number[]> {
  const statuses: number[] = []
  for (let n = 0; n < requests; n++) statuses.push((await ask('GET', '/products', { token: token('alice') })).status)
  return statuses
}
