import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { demoPayments } from '../../plugins/demo-payments.ts'
import { startApp } from '../app.ts'
import { serviceWaitsForLock } from '../faults.ts'
import { TestGateway } from './gateway.ts'

interface Order { id: string, status: string, total: number }
interface Problem { type: string, refundable?: number }

const pint = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

async function start (t: Test, plan: TestGateway['plan'], databaseUrl?: string) {
  const gateway = new TestGateway()
  gateway.plan = plan
  const running = await startApp(t, { payments: gateway, ...databaseUrl !== undefined && { databaseUrl } })
  const { ask, token, sql } = running
  const alice = token('alice')
  const staff = token('boss', { staff: true })
  const clerk = token('clerk', { refunds: true })
  return {
    ...running,
    gateway,
    staff,
    place: async () => (await ask<Order>('POST', '/orders', { token: alice, body: pint, headers: { 'idempotency-key': randomUUID() } })).body,
    move: async (id: string, how: string, as = alice) => await ask<Order & Problem>('POST', `/orders/${id}/${how}`, { token: as }),
    refund: async (id: string, amount?: number, key: string = randomUUID()) => await ask<Problem & { state: string }>('POST', `/orders/${id}/refunds`, { token: clerk, body: { ...amount !== undefined && { amount } }, headers: { 'idempotency-key': key } }),
    events: async (id: string) => (await ask<{ events: Array<{ type: string }> }>('GET', `/orders/${id}/events`, { token: alice })).body.events.map(({ type }) => type),
    stateOf: async (id: string) => (await sql.query<{ state: string }>('SELECT state FROM payments WHERE order_id = $1', [id])).rows[0]?.state,
    hurry: async () => {
      await sql.query('UPDATE payments SET due_at = now() WHERE due_at IS NOT NULL')
      await sql.query('UPDATE refunds SET due_at = now() WHERE due_at IS NOT NULL')
      await running.app.payments.wake()
    }
  }
}

async function until (is: () => Promise<boolean>): Promise<void> {
  while (!await is()) await delay(20)
}

t.test('a refund that a clerk asked for makes an event even if its order is cancelled before the gateway answers', async t => {
  const { place, move, refund, sql, events, hurry, gateway } = await start(t, ['charge'])
  const { id } = await place()
  await move(id, 'pay')
  gateway.plan = ['no answer', 'charge']
  t.equal((await refund(id, 100)).status, 202)
  t.equal((await move(id, 'cancel')).status, 200)
  await until(async () => {
    await hurry()
    return (await sql.query("SELECT FROM refunds WHERE order_id = $1 AND state = 'refunded'", [id])).rowCount === 2
  })
  t.same(await events(id), ['placed', 'paid', 'cancelled', 'refunded'])
})

t.test('a refund that the gateway refused can be asked for again with another key', async t => {
  const { place, move, refund, gateway } = await start(t, ['charge'])
  const { id } = await place()
  await move(id, 'pay')
  gateway.plan = ['decline', 'charge']
  const refused = await refund(id)
  t.match(refused, { status: 409, body: { type: '/problems/not-refundable' } })
  t.notHas(refused.body, { refundable: Number })
  t.match(await refund(id), { status: 201 })
})

t.test('the id of a refund that a cancellation makes contains its time, by which a gateway may find the refund', async t => {
  const { place, move, sql } = await start(t, ['charge'])
  const before = Date.now()
  const { id } = await place()
  await move(id, 'pay')
  await move(id, 'cancel')
  const [row] = (await sql.query<{ id: string }>('SELECT id FROM refunds WHERE order_id = $1', [id])).rows
  t.match(row?.id, /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab]/)
  const at = parseInt(row?.id.replace('-', '').slice(0, 12) ?? '', 16)
  t.ok(at >= before && at <= Date.now())
})

t.test('a known payment that the gateway does not find is neither treated as voided nor charged again', async t => {
  const { place, move, gateway, hurry, stateOf, sql } = await start(t, ['pending', 'charge'])
  const { id } = await place()
  await move(id, 'pay')
  const { find } = gateway
  gateway.find = async () => undefined
  t.match(await move(id, 'pay'), { status: 202 })
  t.same(gateway.calls.filter(call => call === 'charge').length, 1)
  await move(id, 'cancel')
  await hurry()
  await until(async () => (await sql.query('SELECT FROM payments WHERE order_id = $1 AND tries > 0', [id])).rowCount === 1)
  t.equal(await stateOf(id), 'voiding')
  gateway.find = find
  gateway.decide('charged')
  await until(async () => {
    await hurry()
    return gateway.refunded.length === 1
  })
  t.equal(gateway.charged.length, 1, 'the cancelled order was charged once, and its money was given back')
})

t.test('an order that was returned or refunded as a whole cannot be shipped', async t => {
  const { place, move, ask, staff, refund } = await start(t, ['charge'])
  const { id } = await place()
  await move(id, 'pay')
  await ask('POST', `/orders/${id}/returns`, { token: staff, body: { items: pint.items, restock: true, refund: false }, headers: { 'idempotency-key': 'all' } })
  t.match(await move(id, 'ship', staff), { status: 409, body: { type: '/problems/transition-not-allowed' } })
  const other = await place()
  await move(other.id, 'pay')
  await refund(other.id)
  t.match(await move(other.id, 'ship', staff), { status: 409, body: { type: '/problems/transition-not-allowed' } })
})

t.test('one key for refunds of two orders at once is refused as reused for the second order', async t => {
  const { place, move, refund, sql } = await start(t, ['charge'])
  const [one, other] = [await place(), await place()]
  await move(one.id, 'pay')
  await move(other.id, 'pay')
  await sql.query('BEGIN')
  await sql.query("SELECT begin_refund($1, $2, 100, NULL, 'clerk', 'k', 60000)", [randomUUID(), one.id])
  const second = refund(other.id, 100, 'k')
  await serviceWaitsForLock(sql)
  await sql.query('COMMIT')
  t.match(await second, { status: 422, body: { type: '/problems/idempotency-key-reused' } })
})

t.test('two refunds at once by the demo gateway give back no more than was charged', async t => {
  const { app, sql } = await startApp(t)
  const demo = demoPayments(app.prisma)
  const call = { signal: AbortSignal.timeout(60_000), remainingMs: 60_000 }
  const charge = randomUUID()
  await demo.charge({ id: charge, order: randomUUID(), customer: 'alice', amount: 1_000n, currency: 'EUR', captures: true }, call)
  await sql.query('BEGIN')
  await sql.query('SELECT FROM demo_ledger WHERE id = $1 FOR UPDATE', [charge])
  const both = Promise.all([1, 2].map(async () => await demo.refund({ id: randomUUID(), charge, amount: 600n, currency: 'EUR' }, call)))
  await serviceWaitsForLock(sql)
  await sql.query('COMMIT')
  t.same((await both).map(({ state }) => state).sort(), ['failed', 'refunded'])
})
