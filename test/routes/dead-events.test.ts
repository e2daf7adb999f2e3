import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'
import { startApp } from '../app.ts'
import type { OrderMessage, Publisher } from '../../orders/publisher.ts'

const root = join(import.meta.dirname, '../..')
const runbook = readFileSync(join(root, 'docs/runbooks/dead-events.md'), 'utf8')
const elsewhere = { remoteAddress: '192.0.2.7' }

async function start (t: Test, publisher: Publisher, settings: Record<string, string> = {}) {
  const lines: Array<{ msg: string, orderId?: string, remoteAddress?: string }> = []
  const log = { write: (line: string) => { lines.push(JSON.parse(line)) } }
  const service = await startApp(t, { publisher, log })
  const ops = await buildOps({ app: service.app, config: loadConfig(settings), logger: pino({ level: 'info' }, log) })
  const opsUrl = await ops.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(async () => { await ops.close() })
  const place = async (): Promise<string> => {
    const { body: { id } } = await service.ask<{ id: string }>('POST', '/orders', { token: service.token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': crypto.randomUUID() } })
    await service.ask('POST', `/orders/${id}/pay`, { token: service.token('alice') })
    return id
  }
  /** Waits until all events are published and marked, then makes the first event of each order dead. */
  const kill = async (ids: string[], reason: string): Promise<void> => {
    while ((await service.sql.query('SELECT FROM outbox WHERE available_at IS NOT NULL UNION ALL SELECT FROM outbox_leases')).rowCount !== 0) await delay(5)
    await service.sql.query('UPDATE outbox SET dead_at = now(), available_at = now(), attempts = 12, last_error = $2 WHERE order_id = ANY ($1) AND version = 1', [ids, reason])
    await service.sql.query("UPDATE outbox SET available_at = 'infinity' WHERE order_id = ANY ($1) AND version = 2", [ids])
  }
  return { ...service, ops, opsUrl, lines, place, kill }
}

class Broker implements Publisher {
  readonly received: string[] = []

  async publish (messages: OrderMessage[]): Promise<void> {
    for (const { orderId, version } of messages) this.received.push(`${orderId} ${version}`)
  }

  async has (event: string, count = 1): Promise<void> {
    while (this.received.filter(received => received === event).length < count) await delay(5)
  }
}

/** Runs the runbook's command on the ops port of this test. */
async function events (opsUrl: string, ...args: string[]): Promise<{ code: number, said: string }> {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { events: string } }
  const [, file = ''] = scripts.events.split(' ')
  const run = promisify(execFile)(process.execPath, [file, ...args, '--ops', opsUrl], { cwd: root, env: { PATH: process.env.PATH } })
  return await run.then(({ stdout }) => ({ code: 0, said: stdout }), (error: { code: number, stderr: string }) => ({ code: error.code, said: error.stderr }))
}

t.test('the commands of the runbook list, revive and discard dead events, and each answer names the next command', async t => {
  const broker = new Broker()
  const { opsUrl, place, kill, lines } = await start(t, broker)
  for (const step of ['list', 'revive ORDER VERSION', 'revive --type paid', "revive --reason 'part of the reason'", 'revive --all', 'discard ORDER VERSION']) t.match(runbook, `npm run -s events -- ${step}\n`)
  t.match(await events(opsUrl, 'list'), { code: 0, said: /No such event is dead/ })

  const ids: [string, string, string, string] = [await place(), await place(), await place(), await place()]
  await kill(ids, 'the topic is missing: orders-placed')
  const { said } = await events(opsUrl, 'list', '--limit', '3')
  for (const id of ids.slice(0, 3)) t.match(said, new RegExp(`${id} +1 +placed .* 12 +1 +the topic is missing`))
  const next = /events -- (list .*--cursor \S+)/.exec(said)?.[1] ?? ''
  t.match(await events(opsUrl, ...next.replaceAll("'", '').split(' ')), { code: 0, said: ids[3] }, 'the printed command shows the next page')

  const suggested = /events -- (revive \S+ 1)/.exec(said)?.[1]?.split(' ') ?? []
  const revived = suggested[1] ?? ''
  t.match(await events(opsUrl, ...suggested), { code: 0, said: /was revived\. It is published next[^]*npm run -s events -- list/ })
  await broker.has(`${revived} 2`, 2)
  t.same(broker.received.filter(event => event.startsWith(revived)), [`${revived} 1`, `${revived} 2`, `${revived} 1`, `${revived} 2`], 'the events behind it follow')
  while ((await events(opsUrl, ...suggested)).said.includes('it is waiting'));
  t.match(await events(opsUrl, ...suggested), { code: 0, said: /not dead any more: it is published/ }, 'the repeated command says so')

  const discarded = ids.find(id => id !== revived) ?? ''
  t.match(await events(opsUrl, 'discard', discarded, '1'), { code: 0, said: /was discarded[^]*npm run -s events -- list/ })
  await broker.has(`${discarded} 2`, 2)
  t.equal(broker.received.filter(event => event === `${discarded} 1`).length, 1)
  t.match(await events(opsUrl, 'revive', discarded, '1'), { code: 1, said: /was discarded, and later ones may have been published\. Nothing was changed\.[^]*npm run -s events -- list/ })

  const [third = '', fourth = ''] = ids.filter(id => id !== revived && id !== discarded)
  t.match(await events(opsUrl, 'revive', '--reason', 'something else'), { code: 0, said: /^0 dead events/ })
  t.match(await events(opsUrl, 'revive', '--type', 'paid'), { code: 0, said: /^0 dead events/ })
  t.match(await events(opsUrl, 'revive', '--reason', 'topic is missing'), { code: 0, said: /^2 dead events were revived[^]*npm run -s events -- list/ })
  for (const id of [third, fourth]) await broker.has(`${id} 2`, 2)
  t.match(await events(opsUrl, 'revive', '--all'), { code: 0, said: /^0 dead events/ })

  const audit = lines.filter(({ msg }) => /dead event/i.test(msg))
  t.match(audit.map(({ msg, orderId }) => [msg, orderId]), [[/was revived/, revived], [/was discarded/, discarded], [/were revived/], [/were revived/], [/were revived/], [/were revived/]])
  t.ok(audit.every(({ remoteAddress }) => remoteAddress === '127.0.0.1'))
})

t.test('a command that cannot be carried out says why, what was not done, and what to do', async t => {
  const { opsUrl, ops } = await start(t, new Broker())
  t.match(await events(opsUrl, 'revive', crypto.randomUUID(), '1'), { code: 1, said: /There is no event 1 of an order .*Nothing was changed\./ })
  t.match(await events(opsUrl, 'revive'), { code: 2, said: /Which ones\?[^]*Nothing was changed\.[^]*Usage/ })
  t.match(await events(opsUrl, 'bury', 'x', '1'), { code: 2, said: /Usage/ })
  await ops.close()
  t.match(await events(opsUrl, 'list'), { code: 1, said: /did not answer at http[^]*Start the service/ })
})

t.test('dead events can be read and changed only from this machine or with the token', async t => {
  const { ops, place, kill } = await start(t, new Broker(), { OPS_TOKEN: 'thelandlord' })
  const id = await place()
  await kill([id], 'no')
  const paths = [['GET', '/events/dead'], ['POST', `/events/dead/${id}/1/revive`], ['POST', `/events/dead/${id}/1/discard`], ['POST', '/events/dead/revive']] as const
  for (const [method, url] of paths) {
    const body = url === '/events/dead/revive' ? { body: { all: true } } : {}
    const refused = await ops.inject({ method, url, ...elsewhere, ...body })
    t.same([refused.statusCode, refused.headers['content-type']], [401, 'application/problem+json'])
    t.equal((await ops.inject({ method, url, headers: { origin: 'http://evil.example' }, ...body })).statusCode, 401, 'a page of another site')
  }
  const authorization = 'Bearer thelandlord'
  t.match((await ops.inject({ url: '/events/dead', ...elsewhere, headers: { authorization } })).json(), { events: [{ orderId: id, version: 1, customer: 'alice', waiting: 1 }], next: null })
  t.match((await ops.inject({ method: 'POST', url: `/events/dead/${id}/2/discard` })).json(), { type: /event-not-dead$/, status: 409, detail: /is waiting; only a dead one/ })
  t.equal((await ops.inject({ method: 'POST', url: '/events/dead/revive', body: {} })).statusCode, 400)
  t.equal((await ops.inject('/events/dead?cursor=abc')).statusCode, 400)
  t.match((await ops.inject({ method: 'POST', url: `/events/dead/${id}/1/discard`, ...elsewhere, headers: { authorization } })).json(), { state: 'discarded', changed: true })
  t.match((await ops.inject({ method: 'POST', url: `/events/dead/${id}/1/discard` })).json(), { state: 'discarded', changed: false })
})

t.test('while the publisher fails, /readyz and the metrics show it, the service stays ready, and orders are placed', async t => {
  const { ask, ops, place, token } = await start(t, { publish: async () => { throw new Error('ECONNREFUSED broker:9092') } })
  const id = await place()
  let verbose = ''
  while (!verbose.includes('publisher failed')) verbose = (await ops.inject('/readyz?verbose')).body
  t.match(verbose, /^\[-\]publisher failed: ECONNREFUSED broker:9092 \(not counted\)$/m)
  t.match(verbose, /^readyz check passed$/m)
  t.equal((await ask('GET', '/readyz')).status, 200)
  const metrics = (await ops.inject('/metrics')).body
  t.match(metrics, /^publisher_breaker_open 1$/m)
  t.match(metrics, /^outbox_oldest_event_age_seconds \d/m)
  t.match((await ops.inject('/drain')).json(), { publisher: { ok: false, reason: 'ECONNREFUSED broker:9092' } })
  t.match(await ask('POST', `/orders/${id}/cancel`, { token: token('alice') }), { status: 200 })
})
