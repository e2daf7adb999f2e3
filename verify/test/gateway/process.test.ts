import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { startGateway, type GatewayOptions, type GatewayProcess } from '../../gateway-process.ts'
import { now } from '../../history.ts'
import type { LedgerCharge } from '../../gateway/ledger.ts'

const charge = { order: 'o1', customer: 'alice', amount: 520, currency: 'EUR', capture: true }

t.test('a charge is on disk before it is answered, and is found by its id', async t => {
  const gateway = await start(t)
  t.strictSame((await ask(gateway, 'GET', '/charges/p1')).status, 404)
  const { status, body } = await ask(gateway, 'PUT', '/charges/p1', charge)
  t.match({ status, body }, { status: 200, body: { id: 'p1', ...charge, state: 'charged', captured: 520, refunded: 0, reference: /^ch_/ } })
  t.strictSame(chargesIn(gateway), [body])
  t.strictSame((await ask(gateway, 'GET', '/charges/p1')).body, body)
  t.match(await ask(gateway, 'PUT', '/charges/p1', { ...charge, amount: 1 }), { status: 409 })
  t.match(await ask(gateway, 'PUT', '/refunds/r1', { charge: 'p1', amount: 20, currency: 'EUR' }), { status: 200, body: { state: 'refunded', charge: 'p1' } })
  t.match(await ask(gateway, 'GET', '/refunds/r1'), { status: 200, body: { id: 'r1', amount: 20 } })
})

t.test('a call without a token, or without an amount, is refused', async t => {
  const gateway = await start(t)
  t.equal((await fetch(`${gateway.url}/charges/p1`, { method: 'PUT', body: JSON.stringify(charge) })).status, 401)
  for (const amount of [0, -1, 1.5, '520', undefined]) t.match(await ask(gateway, 'PUT', '/charges/p1', { ...charge, amount }), { status: 400 })
  t.strictSame(chargesIn(gateway), [])
})

t.test('a killed gateway goes on with its ledger, and does not repeat a charge', async t => {
  const gateway = await start(t)
  const { body } = await ask(gateway, 'PUT', '/charges/p1', charge)
  await gateway.restart(0)
  t.strictSame((await ask(gateway, 'PUT', '/charges/p1', charge)).body, body)
  t.equal(chargesIn(gateway).length, 1)
})

t.test('while the gateway refuses, cuts or hangs, it charges nothing', async t => {
  const gateway = await start(t)
  for (const line of ['refusing', 'cutting'] as const) {
    await gateway.set({ line })
    await t.rejects(ask(gateway, 'PUT', '/charges/p1', charge), line)
  }
  await gateway.set({ line: 'hanging' })
  const hung = t.rejects(ask(gateway, 'PUT', '/charges/p1', charge))
  await t.rejects(fetch(gateway.url, { signal: AbortSignal.timeout(200) }))
  await gateway.set({ line: 'up' })
  await hung
  t.strictSame(chargesIn(gateway), [])
  t.match(await ask(gateway, 'PUT', '/charges/p1', charge), { status: 200 })
})

t.test('a faulty gateway loses answers, declines, and leaves charges pending; a repeated id gets the outcome, and each id is charged once', async t => {
  const gateway = await start(t, { state: { calls: 'faulty' }, seed: 1 })
  const ids = Array.from({ length: 150 }, (_, i) => `p${i}`)
  await Promise.all(ids.map(async id => {
    while (await ask(gateway, 'PUT', `/charges/${id}`, charge, 30).then(({ status }) => status !== 200, () => true));
  }))
  await gateway.set({ calls: 'well' })
  const last = new Map(chargesIn(gateway).map(entry => [entry.reference, entry]))
  t.strictSame([...last.values()].map(({ id }) => id).sort(), ids.toSorted())
  t.strictSame([...new Set([...last.values()].map(({ state }) => state))].sort(), ['charged', 'declined'])
  t.ok(chargesIn(gateway).some(({ state }) => state === 'pending'))
  const faults = readFileSync(join(t.testdirName, 'gateway.log'), 'utf8').trimEnd().split('\n').map(line => (JSON.parse(line) as { fault?: string }).fault)
  t.strictSame([...new Set(faults)].sort(), ['500-after', '500-before', 'lost', 'slow-after', 'slow-before', undefined])
})

t.test('a charge is made once even if its caller has given up, and even if it is asked for again meanwhile', async t => {
  const gateway = await start(t, { state: { calls: 'faulty' } })
  let slow = 0
  for (let i = 0; slow < 3; i++) {
    const id = `p${i}`
    const isLate = await ask(gateway, 'PUT', `/charges/${id}`, charge, 100).then(() => false, error => (error as Error).name === 'TimeoutError')
    if (!isLate) continue
    slow++
    while (await ask(gateway, 'PUT', `/charges/${id}`, charge, 100).then(({ status }) => status !== 200, () => true));
  }
  await gateway.set({ calls: 'well' })
  const references = Map.groupBy(chargesIn(gateway), ({ id }) => id)
  for (const [id, entries] of references) t.equal(new Set(entries.map(({ reference }) => reference)).size, 1, id)
})

t.test('a change is notified by a message that is signed by the Standard Webhooks specification', async t => {
  const received: Array<{ headers: Record<string, unknown>, body: string }> = []
  const arrived = Promise.withResolvers<void>()
  const receiver = createServer((request, response) => {
    void text(request).then(body => {
      received.push({ headers: request.headers, body })
      response.writeHead(204).end()
      arrived.resolve()
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  t.teardown(() => receiver.close())
  const gateway = await start(t)
  await gateway.set({ notifyUrl: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/payments/notifications` })
  await ask(gateway, 'PUT', '/charges/p1', charge)
  await arrived.promise
  t.equal(gateway.notices(0, now()), 1)
  t.equal(gateway.notices(now() + 10_000, now() + 20_000), 0)
  const [{ headers, body } = { headers: {}, body: '' }] = received
  t.match(JSON.parse(body), { type: 'charge.updated', id: 'p1', at: String })
  const key = Buffer.from(gateway.notifySecret.slice('whsec_'.length), 'base64')
  const signature = createHmac('sha256', key).update(`${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`).digest('base64')
  t.equal(headers['webhook-signature'], `v1,${signature}`)
})

async function start (t: Test, options: Partial<GatewayOptions> = {}): Promise<GatewayProcess> {
  const gateway = await startGateway({ directory: t.testdir(), seed: 1, keysKeptMs: 60_000, ...options })
  t.teardown(gateway.close)
  return gateway
}

function chargesIn (gateway: GatewayProcess): LedgerCharge[] {
  return [...gateway.ledger()].flatMap(line => 'charge' in line ? line.charge : [])
}

async function ask (gateway: GatewayProcess, method: string, path: string, body?: object, timeoutMs = 5_000): Promise<{ status: number, body: unknown }> {
  const response = await fetch(gateway.url + path, {
    method,
    headers: { authorization: `Bearer ${gateway.token}`, 'x-request-timeout-ms': String(timeoutMs) },
    ...body && { body: JSON.stringify(body) },
    signal: AbortSignal.timeout(timeoutMs)
  })
  return { status: response.status, body: await response.json() }
}
