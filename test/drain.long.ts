import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { test, type Test } from 'tap'
import { Client } from 'undici'
import { serviceWaitsForLock } from './faults.ts'
import { createTestDatabase } from './postgres.ts'
import { startService, type Service } from './service.ts'

const clients = 64
const rounds = Number(process.env.DRAIN_ROUNDS ?? 10)

/** What a client saw of one POST. */
type Seen =
  | { answer: 'whole', status: number, type: string | undefined, id: string | undefined }
  | { answer: 'refused connection' | 'reset' | 'cut' | 'hung up' }

interface Attempt {
  key: string
  seen: Seen
}

test(`${rounds} stops by SIGTERM under the load of ${clients} keep-alive clients lose no acknowledged order and abandon no request`, async t => {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 2000000000)")
  const attempts: Attempt[] = []
  let hits = 0

  for (let round = 1; round <= rounds; round++) {
    const service = await startService(t, { DATABASE_URL: url, LOG_LEVEL: 'info' })
    const seen = await loadUntilStopped(service)
    const [code, signal] = await service.exited
    const report = reportOf(service)
    attempts.push(...seen)

    const whole = seen.filter(({ seen }) => seen.answer === 'whole')
    const resets = seen.filter(({ seen }) => seen.answer === 'reset')
    if (report.requests.atStart > 0) hits++
    t.same([code, signal], [0, null], `round ${round}: ${report.requests.atStart} in flight at the signal, ${whole.length} answered, ${resets.length} reset, exit after ${report.elapsed} ms`)
    t.equal(report.requests.abandoned.count, 0)
    t.equal(seen.filter(({ seen }) => seen.answer === 'cut').length, 0, 'no answer was cut short')
    const foreign = whole.filter(({ seen }) => seen.answer === 'whole' && !(seen.status === 201 || (seen.status === 503 && seen.type?.endsWith('not-started'))))
    t.same(foreign, [], 'every answer is an order or a typed refusal')
  }

  const { rows } = await sql.query<{ key: string, id: string }>('SELECT idempotency_key AS key, id FROM orders')
  const stored = new Map(rows.map(({ key, id }) => [key, id]))
  const asked = new Map(attempts.map(attempt => [attempt.key, attempt]))
  const acknowledged = attempts.filter(({ seen }) => seen.answer === 'whole' && seen.status === 201)
  t.ok(hits * 2 >= rounds, `${hits} of ${rounds} signals hit requests in flight`)
  t.ok(acknowledged.length > rounds * clients, `${acknowledged.length} orders were acknowledged`)
  t.same(acknowledged.filter(({ key, seen }) => seen.answer === 'whole' && stored.get(key) !== seen.id), [], 'every acknowledged order is stored')
  t.same([...stored.keys()].filter(key => !asked.has(key)), [], 'every stored order was asked for')
  t.same(attempts.filter(({ key, seen }) => seen.answer !== 'whole' && stored.has(key)), [], 'no order without an answer is stored')
  const resets = attempts.filter(({ seen }) => seen.answer === 'reset').length
  t.ok(resets * 100 < attempts.length, `${resets} of ${attempts.length} were reset before they were accepted: fewer than one in a hundred`)
  t.same(attempts.filter(({ key, seen }) => seen.answer === 'whole' && seen.status === 503 && stored.has(key)), [], 'no refused order is stored')
})

test('an order whose client hangs up is stored before the process stops', async t => {
  const { service, sql, hold } = await startHeld(t)
  const release = await hold()
  const client = new Client(service.url)
  t.teardown(() => client.destroy())
  const key = randomUUID()
  const posted = post(client, service.token('alice'), key)
  await serviceWaitsForLock(sql)
  await client.destroy()
  t.same(await posted, { answer: 'hung up' })

  service.child.kill('SIGTERM')
  await service.line(/"msg":"closing"/)
  await release()
  t.same(await service.exited, [0, null])
  t.equal(reportOf(service).requests.abandoned.count, 0)
  const { rowCount } = await sql.query('SELECT FROM orders WHERE idempotency_key = $1', [key])
  t.equal(rowCount, 1)
})

test('a client gets an answer and the stop keeps its deadline even if the database hangs', async t => {
  const { service, sql } = await startHeld(t, { REQUEST_TIMEOUT_MS: '2000', DRAIN_DEADLINE_MS: '3000' })
  await sql.query(`
    CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
    CREATE TRIGGER hang BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION hang()`)
  const client = new Client(service.url)
  t.teardown(() => client.destroy())
  const posted = post(client, service.token('alice'), randomUUID())
  while ((await sql.query("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")).rowCount === 0);
  service.child.kill('SIGTERM')
  t.match(await posted, { answer: 'whole', status: 503, type: /outcome-unknown$/ })
  t.same(await service.exited, [0, null])
  t.ok(reportOf(service).elapsed < 3_000)
})

test('the ops port answers until the process ends, and readiness fails from the signal on', async t => {
  const { service, sql, hold } = await startHeld(t, { DRAIN_MIN_MS: '300', DRAIN_MAX_MS: '300' })
  const release = await hold()
  const client = new Client(service.url)
  t.teardown(() => client.destroy())
  t.equal((await fetch(`${service.url}/readyz`)).status, 200)
  const posted = post(client, service.token('alice'), randomUUID())
  await serviceWaitsForLock(sql)

  service.child.kill('SIGTERM')
  await service.line(/"msg":"draining"/)
  const ready = await fetch(`${service.url}/readyz`)
  t.equal(ready.status, 503)
  t.equal(ready.headers.get('connection'), 'close')
  t.equal((await fetch(`${service.url}/livez`)).status, 200)
  await service.line(/"msg":"closing"/)
  t.match(await (await fetch(`${service.opsUrl}/readyz?verbose`)).text(), /\[-\]drain/)
  t.match(await (await fetch(`${service.opsUrl}/metrics`)).text(), /drain_state\{state="closing"\} 1/)
  await release()
  t.match(await posted, { answer: 'whole', status: 201 })
  t.same(await service.exited, [0, null])
})

/** Starts a service; `hold` locks the only product that it sells, so that an order stays under way. */
async function startHeld (t: Test, env: Record<string, string> = {}) {
  const { url } = await createTestDatabase(t)
  const [sql, holder] = [new pg.Client({ connectionString: url }), new pg.Client({ connectionString: url })]
  await Promise.all([sql.connect(), holder.connect()])
  t.teardown(() => Promise.all([sql.end(), holder.end()]))
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000)")
  const service = await startService(t, { DATABASE_URL: url, ...env })
  return {
    service,
    sql,
    async hold () {
      await holder.query('BEGIN; SELECT FROM products FOR UPDATE')
      return async () => { await holder.query('ROLLBACK') }
    }
  }
}

/** Each client posts one order after the other on one connection, until its connection is refused. */
async function loadUntilStopped (service: Service): Promise<Attempt[]> {
  const token = service.token('alice')
  const attempts: Attempt[] = []
  let answered = 0
  await Promise.all(Array.from({ length: clients }, async () => {
    const client = new Client(service.url, { pipelining: 1 })
    for (;;) {
      const key = randomUUID()
      const seen = await post(client, token, key)
      attempts.push({ key, seen })
      if (seen.answer === 'refused connection') break
      if (seen.answer === 'whole' && seen.status === 201 && ++answered === clients * 5) afterTheNextAreSent(() => service.child.kill('SIGTERM'))
    }
    await client.destroy()
  }))
  return attempts
}

function afterTheNextAreSent (act: () => void): void {
  setImmediate(() => setImmediate(act))
}

async function post (client: Client, token: string, key: string): Promise<Seen> {
  let started = false
  try {
    const { statusCode, body } = await client.request({
      method: 'POST',
      path: '/orders',
      headers: { authorization: `Bearer ${token}`, 'idempotency-key': key, 'content-type': 'application/json' },
      body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
    })
    started = true
    const { id, type } = await body.json() as { id?: string, type?: string }
    return { answer: 'whole', status: statusCode, id, type }
  } catch (error) {
    if (started) return { answer: 'cut' }
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ECONNREFUSED') return { answer: 'refused connection' }
    if (code === 'ECONNRESET' || code === 'UND_ERR_SOCKET') return { answer: 'reset' }
    if (code === 'UND_ERR_DESTROYED') return { answer: 'hung up' }
    throw error
  }
}

interface Report {
  elapsed: number
  requests: { atStart: number, abandoned: { count: number } }
  tracked: { abandoned: string[] }
}

function reportOf (service: Pick<Service, 'lines'>): Report {
  const line = service.lines.findLast(line => line.includes('"drain":'))
  return JSON.parse(line ?? '{}').drain
}
