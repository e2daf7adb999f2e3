import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { loadConfig } from '../../config.ts'
import { openAgent, weightOf } from '../../plugins/agent-check.ts'
import { startApp, type RunningApp } from '../app.ts'
import { serviceWaitsForLock } from '../faults.ts'
import { createTestDatabase } from '../postgres.ts'
import { spawnService, startService } from '../service.ts'

const { url: databaseUrl } = await createTestDatabase(t)
const idle = { loop: 0, pool: 0, intake: 0 }

t.test('an idle instance has its whole weight, and each kind of load reduces it', async t => {
  t.equal(weightOf(idle), 100)
  t.equal(weightOf({ ...idle, loop: 0.5 }), 75)
  t.equal(weightOf({ ...idle, loop: 1 }), 50, 'the loop takes half at most')
  t.equal(weightOf({ ...idle, pool: 1 }), 50)
  t.equal(weightOf({ ...idle, intake: 3 }), 25)
  t.equal(weightOf({ loop: 1, pool: 1, intake: 1 }), 13, 'together they multiply, to a whole number')
  t.equal(weightOf({ loop: 1, pool: 100, intake: 1_000 }), 1, 'never 0, which would drain')
})

t.test('the load of two instances that are weighted by their loops settles, also at four fifths each', async t => {
  for (const load of [0.2, 0.4, 0.8, 1.2, 1.6]) {
    let [one, other] = [0.8 * load, 0.2 * load]
    for (let check = 0; check < 200; check++) {
      const [a, b] = [weightOf({ ...idle, loop: Math.min(1, one) }), weightOf({ ...idle, loop: Math.min(1, other) })]
      one = load * a / (a + b)
      other = load - one
    }
    t.ok(Math.abs(one - other) < 0.03, `of ${load} one has ${one.toFixed(2)}`)
  }
})

t.test('the agent answers each connection with one line and closes it, whatever the peer sends', async t => {
  const { agent } = await startWithAgent(t)
  t.match(await ask(agent), /^ready up \d+%\n$/)
  t.match(await ask(agent, socket => socket.write('state\n')), /^ready up \d+%\n$/)
})

t.test('waiting orders reduce the weight of the instance, and it recovers', async t => {
  const { agent, sql, token, ask: request } = await startWithAgent(t, { INTAKE_BATCH_MAX: '1', INTAKE_IN_FLIGHT: '1' })
  await sql.query('BEGIN; SELECT FROM products FOR UPDATE')
  const place = (key: string) => request('POST', '/orders', {
    token: token('alice'),
    body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] },
    headers: { 'idempotency-key': key }
  })
  const placed = Array.from({ length: 20 }, (_, n) => place(`queued-${n}`))
  t.ok(await weightUntil(agent, weight => weight <= 5))
  await sql.query('ROLLBACK')
  t.same(new Set((await Promise.all(placed)).map(({ status }) => status)), new Set([201]))
  t.ok(await weightUntil(agent, weight => weight > 50))
})

t.test('queries that wait for a connection reduce the weight of the instance, and it recovers', async t => {
  const { agent, app, sql } = await startWithAgent(t, { DATABASE_POOL: '2', INTAKE_IN_FLIGHT: '1' })
  t.match(await ask(agent), /^ready up/, 'as HAProxy asks from the start')
  await sql.query('BEGIN; LOCK products')
  const queries = Promise.all(Array.from({ length: 20 }, () => app.prisma.product.count()))
  t.ok(await weightUntil(agent, weight => weight <= 10))
  await sql.query('ROLLBACK')
  await queries
  t.ok(await weightUntil(agent, weight => weight > 50))
})

t.test('a busy event loop reduces the weight of the instance, and it recovers', async t => {
  const { agent } = await startWithAgent(t)
  t.ok(await weightUntil(agent, weight => weight > 80))
  t.ok(await weightUntil(agent, weight => weight < 65, () => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500) }))
  t.ok(await weightUntil(agent, weight => weight > 80))
})

t.test('the agent says drain from the start of a stop to its end', async t => {
  const { agent, app } = await startWithAgent(t)
  let release = (): void => {}
  app.drain.on('closing', () => new Promise<void>(resolve => { release = resolve }))
  const stopped = app.drain.start('test')
  t.equal(await ask(agent), 'drain\n')
  while (app.drain.state !== 'closing') t.equal(await ask(agent), 'drain\n')
  t.equal(await ask(agent), 'drain\n')
  release()
  t.equal((await stopped).exitCode, 0)
  t.equal(await ask(agent), 'drain\n', 'even when all is closed')
})

t.test('the agent closes a peer that neither reads nor closes', async t => {
  const { agent } = await startWithAgent(t)
  const accepted = once(agent, 'connection')
  const peer = connect({ port: portOf(agent), host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => { peer.destroy() })
  const [socket] = await accepted as [Socket]
  await once(socket, 'close')
  t.equal(peer.readableEnded, false, 'the peer has not read to the end')
})

t.test('the process says drain to agent checks from the signal to its exit', async t => {
  const sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  t.teardown(() => sql.end())
  const service = await startService(t, { DATABASE_URL: databaseUrl, AGENT_PORT: '0', DRAIN_MIN_MS: '300', DRAIN_MAX_MS: '300' })
  const { address, port } = JSON.parse(await service.line(/listening for agent checks/)) as AddressInfo
  t.equal(address, '127.0.0.1')
  t.match(await ask(port), /^ready up \d+%\n$/)

  await sql.query("BEGIN; INSERT INTO products VALUES ('stout', 'Pint of stout', 610, 'EUR', 10) ON CONFLICT DO NOTHING; COMMIT; BEGIN; SELECT FROM products FOR UPDATE")
  const placed = fetch(`${service.url}/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token('alice')}`, 'idempotency-key': 'held', 'content-type': 'application/json' },
    body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'stout', quantity: 1 }] })
  })
  await serviceWaitsForLock(sql)
  const signalledAt = performance.now()
  service.child.kill('SIGTERM')
  while (await ask(port) !== 'drain\n');
  t.comment(`drain ${Math.round(performance.now() - signalledAt)} ms after the signal`)
  await service.line(/"msg":"closing"/)
  t.equal(await ask(port), 'drain\n')
  await sql.query('ROLLBACK')
  t.equal((await placed).status, 201)
  t.same(await service.exited, [0, null])
})

t.test('a start whose agent port or ops port is taken ends with an error, and leaves nothing running', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const port = portOf(taken)
  for (const ports of [{ OPS_PORT: '0', AGENT_PORT: String(port) }, { OPS_PORT: String(port), AGENT_PORT: '0' }]) {
    const service = spawnService(t, { PORT: '0', ...ports, DATABASE_URL: databaseUrl, AUTH_JWT_SECRET: 'a secret for tests, of more than thirty-two bytes' })
    t.same(await service.exited, [1, null])
    t.match(service.lines.join('\n'), `cannot listen on 127.0.0.1:${port}: something else listens there`)
  }
})

async function startWithAgent (t: Test, settings: Record<string, string> = {}): Promise<RunningApp & { agent: Server }> {
  const running = await startApp(t, { settings })
  const agent = await openAgent({ app: running.app, config: loadConfig({ ...settings, AGENT_PORT: '0' }) })
  t.teardown(() => { agent.close() })
  return { ...running, agent }
}

/** All that the agent sends on one connection, until it closes it. */
async function ask (agent: Server | number, act?: (socket: Socket) => void): Promise<string> {
  const socket = connect(typeof agent === 'number' ? agent : portOf(agent), '127.0.0.1')
  act?.(socket)
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

/** Asks again and again, as HAProxy does. It pauses in between, because asking is load too. */
async function weightUntil (agent: Server, reached: (weight: number) => boolean, before = (): void => {}): Promise<number> {
  let weight
  do {
    await delay(20)
    before()
    weight = Number(/^ready up (\d+)%\n$/.exec(await ask(agent))?.[1])
    if (Number.isNaN(weight)) throw new Error('The agent sent no weight.')
  } while (!reached(weight))
  return weight
}

function portOf (server: Server): number {
  return (server.address() as AddressInfo).port
}
