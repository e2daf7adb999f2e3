import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp, type AppOverrides } from '../app.ts'
import { TestGateway } from './gateway.ts'

interface Order { id: string, status: string, version: number, total: number, payment: Payment }
interface Payment {
  id: string
  state: string
  attempt: number
  amount: number
  reason: string | null
  actionUrl: string | null
  refunds: Array<{ id: string, state: string, amount: number }>
}
interface Problem { type: string, detail: string, reason?: string }

const pint = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }

async function start (t: Test, plan: TestGateway['plan'], overrides: AppOverrides = {}) {
  const gateway = new TestGateway()
  gateway.plan = plan
  const running = await startApp(t, { payments: gateway, ...overrides })
  const { ask, token, sql } = running
  const alice = token('alice')
  return {
    ...running,
    gateway,
    place: async () => (await ask<Order>('POST', '/orders', { token: alice, body: pint, headers: { 'idempotency-key': randomUUID() } })).body,
    move: async (id: string, how: string, as = alice) => await ask<Order & Problem>('POST', `/orders/${id}/${how}`, { token: as }),
    payments: async (id: string) => (await ask<{ payments: Payment[] }>('GET', `/orders/${id}/payments`, { token: alice })).body.payments,
    /** Makes everything that is leased or backed off due now. */
    hurry: async () => {
      await sql.query('UPDATE payments SET due_at = now() WHERE due_at IS NOT NULL')
      await sql.query('UPDATE refunds SET due_at = now() WHERE due_at IS NOT NULL')
      await running.app.payments.wake()
    },
    order: async (id: string) => (await ask<Order>('GET', `/orders/${id}`, { token: alice })).body,
    events: async (id: string) => (await ask<{ events: Array<{ version: number, type: string }> }>('GET', `/orders/${id}/events`, { token: alice })).body.events.map(({ type }) => type)
  }
}

async function until (is: () => Promise<boolean>): Promise<void> {
  while (!await is()) await delay(20)
}

t.test('the gateway charges the total of the order, once, and the order is paid', async t => {
  const { place, move, payments, gateway } = await start(t, ['charge'])
  const { id, total } = await place()
  t.match(await move(id, 'pay'), { status: 200, headers: { etag: '"2"' }, body: { status: 'paid', version: 2 } })
  t.match(await move(id, 'pay'), { status: 200, body: { status: 'paid', version: 2 } }, 'a retry gets the same answer')
  const [payment] = await payments(id)
  t.match(payment, { state: 'charged', attempt: 1, amount: total, refunds: [] })
  t.same(gateway.charged, [{ id: payment?.id, order: id, amount: BigInt(total) }], 'it was charged once, by the id of the payment')
})

t.test('a declined payment gets a 402 with its reason, and the order can be paid again', async t => {
  const { place, move, payments, gateway, order } = await start(t, ['decline', 'charge'])
  const { id } = await place()
  t.match(await move(id, 'pay'), { status: 402, body: { type: '/problems/payment-declined', reason: 'card-expired' } })
  t.match(await order(id), { status: 'placed', version: 1 })
  t.match(await move(id, 'pay'), { status: 200, body: { status: 'paid' } })
  t.match(await payments(id), [{ state: 'declined', reason: 'card-expired', attempt: 1 }, { state: 'charged', attempt: 2 }])
  t.equal(gateway.charged.length, 1)
})

for (const lost of ['charge, no answer', 'no answer'] as const) {
  t.test(`a lost answer (${lost}) leaves the payment unknown; the settler asks before it acts, and the order is charged once`, async t => {
    const { place, move, payments, gateway, hurry, order, ask, token } = await start(t, [lost, 'charge'])
    const { id } = await place()
    const paying = await ask<Order>('POST', `/orders/${id}/pay`, { token: token('alice'), headers: { prefer: 'respond-async' } })
    t.match(paying, { status: 202, headers: { 'retry-after': '1' }, body: { status: 'placed', payment: { state: 'unknown' } } })
    t.equal(paying.headers.location, `/orders/${id}/payments/${paying.body.payment.id}`)
    t.match(await ask('GET', String(paying.headers.location), { token: token('alice') }), { status: 200, body: { state: 'unknown' } })
    t.match(await move(id, 'cancel'), { status: 409, body: { type: '/problems/payment-under-way' } }, 'the order cannot be cancelled meanwhile')
    await hurry()
    await until(async () => (await order(id)).status === 'paid')
    t.match(await payments(id), [{ state: 'charged' }])
    t.equal(gateway.charged.length, 1)
    t.equal(gateway.calls[1], 'find', 'the settler asked first')
  })
}

t.test('a retry of a payment with an unknown outcome asks the gateway first, and settles the payment', async t => {
  const { place, move, payments, gateway } = await start(t, ['charge, no answer', 'charge'])
  const { id } = await place()
  const unknown = await move(id, 'pay')
  t.match(unknown, { status: 503, headers: { 'retry-after': '1' }, body: { type: '/problems/outcome-unknown' } })
  t.match(unknown.headers.location, new RegExp(`^/orders/${id}/payments/`))
  t.match(await move(id, 'pay'), { status: 200, body: { status: 'paid' } })
  t.match(await payments(id), [{ state: 'charged' }])
  t.same(gateway.calls.slice(0, 2), ['charge', 'find'])
  t.equal(gateway.charged.length, 1)
})

t.test('a payment gets not-started if the gateway cannot be reached, and the order can be paid again at once', async t => {
  const { place, move, payments, gateway } = await start(t, ['not reached', 'charge'])
  const { id } = await place()
  t.match(await move(id, 'pay'), { status: 503, headers: { 'retry-after': '1' }, body: { type: '/problems/not-started', detail: /Nobody was charged/ } })
  t.match(await payments(id), [{ state: 'declined', reason: 'not-called' }])
  t.match(await move(id, 'pay'), { status: 200 })
  t.equal(gateway.charged.length, 1)
})

t.test('a pending payment tells where the customer has to confirm it, and is settled when the gateway decides', async t => {
  const { place, move, gateway, order, app } = await start(t, ['pending'])
  const { id } = await place()
  const paying = await move(id, 'pay')
  t.match(paying, { status: 202, body: { payment: { state: 'pending', actionUrl: 'https://bank.example/confirm' } } })
  gateway.decide('charged')
  await app.payments.wake(paying.body.payment.id)
  await until(async () => (await order(id)).status === 'paid')
  t.equal(gateway.charged.length, 1)
})

t.test('a customer whose order is cancelled while it is being paid gets a refusal, and the money back', async t => {
  const { place, move, gateway, payments } = await start(t, ['pending', 'charge'])
  const { id } = await place()
  await move(id, 'pay')
  gateway.decide('charged')
  gateway.holdFind = Promise.withResolvers()
  const paying = move(id, 'pay')
  await until(async () => gateway.calls.includes('find'))
  t.match(await move(id, 'cancel'), { status: 200 })
  gateway.holdFind.resolve()
  t.match(await paying, { status: 409, body: { type: '/problems/transition-not-allowed' } })
  await until(async () => (await payments(id))[0]?.refunds[0]?.state === 'refunded')
})

t.test('an order with a pending payment can be cancelled: the payment is voided, or refunded if it was charged meanwhile', async t => {
  for (const decided of [undefined, 'charged'] as const) {
    const { place, move, gateway, payments, order } = await start(t, ['pending', 'charge'])
    const { id } = await place()
    t.match(await move(id, 'pay'), { status: 202 })
    if (decided !== undefined) gateway.decide(decided)
    t.match(await move(id, 'cancel'), { status: 200, body: { status: 'cancelled' } })
    await until(async () => (await payments(id)).every(({ state, refunds }) => state === 'voided' || (state === 'charged' && refunds[0]?.state === 'refunded')))
    t.match(await payments(id), [decided === undefined ? { state: 'voided' } : { state: 'charged', refunds: [{ state: 'refunded' }] }])
    t.match(await order(id), { status: 'cancelled' })
  }
})

t.test('with PAYMENTS_CAPTURE=ship the money is authorised by pay, captured by ship, and voided by cancel', async t => {
  const { place, move, gateway, payments, token, order, events } = await start(t, ['charge', 'charge, no answer', 'charge'], { settings: { PAYMENTS_CAPTURE: 'ship' } })
  const staff = token('boss', { staff: true })
  const { id } = await place()
  t.match(await move(id, 'pay'), { status: 200, body: { status: 'paid' } })
  t.match(await payments(id), [{ state: 'authorised' }])
  t.same(gateway.charged, [], 'no money is taken yet')
  t.match(await move(id, 'ship', staff), { status: 503, body: { type: '/problems/outcome-unknown' } }, 'the answer was lost')
  t.match(await move(id, 'cancel', staff), { status: 409, body: { type: '/problems/payment-under-way' } })
  t.match(await move(id, 'ship', staff), { status: 200, body: { status: 'shipped' } }, 'a retry asks for the capture again')
  t.match(await order(id), { status: 'shipped' })
  t.equal(gateway.charged.length, 1)
  t.same(await events(id), ['placed', 'paid', 'shipped'])

  const other = await place()
  await move(other.id, 'pay')
  t.match(await move(other.id, 'cancel'), { status: 200 })
  await until(async () => (await payments(other.id))[0]?.state === 'voided')
  t.equal(gateway.charged.length, 1)
  t.same(gateway.refunded, [])
})

t.test('an order whose capture is declined is not shipped, and can be paid again', async t => {
  const { place, move, payments, token, order, events } = await start(t, ['charge', 'decline', 'charge'], { settings: { PAYMENTS_CAPTURE: 'ship' } })
  const staff = token('boss', { staff: true })
  const { id } = await place()
  await move(id, 'pay')
  t.match(await move(id, 'ship', staff), { status: 402, body: { type: '/problems/payment-declined' } })
  t.match(await order(id), { status: 'placed' })
  t.match(await move(id, 'pay'), { status: 200 })
  t.match(await move(id, 'ship', staff), { status: 200, body: { status: 'shipped' } })
  t.match(await payments(id), [{ state: 'declined' }, { state: 'charged' }])
  t.same(await events(id), ['placed', 'paid', 'payment-failed', 'paid', 'shipped'])
})

t.test('a charge of another amount does not settle the payment', async t => {
  const { place, move, payments, order, hurry, gateway } = await start(t, ['another amount'])
  const { id } = await place()
  t.match(await move(id, 'pay'), { status: 503 })
  await hurry()
  await until(async () => gateway.calls.includes('find'))
  t.match(await order(id), { status: 'placed' })
  t.match(await payments(id), [{ state: 'unknown' }])
})

t.test('ten requests at once to pay an order make one payment', async t => {
  const { place, move, gateway, payments } = await start(t, ['charge'])
  const { id } = await place()
  const answers = await Promise.all(Array.from({ length: 10 }, async () => await move(id, 'pay')))
  t.strictSame(answers.filter(({ status, body }) => status !== 200 && body.type !== '/problems/outcome-unknown').map(({ status }) => status), [])
  t.equal(gateway.charged.length, 1)
  t.equal((await payments(id)).length, 1)
})

t.test('the cancellation of a paid order gives its money back once, even if the answer is lost', async t => {
  const { place, move, gateway, payments, hurry } = await start(t, ['charge', 'charge, no answer', 'charge'])
  const { id, total } = await place()
  await move(id, 'pay')
  t.match(await move(id, 'cancel'), { status: 200, body: { status: 'cancelled' } })
  await until(async () => gateway.refunded.length > 0)
  await until(async () => {
    await hurry()
    return (await payments(id))[0]?.refunds[0]?.state === 'refunded'
  })
  t.match(await payments(id), [{ state: 'charged', refunds: [{ state: 'refunded', amount: total }] }])
  t.match(gateway.refunded, [{ amount: BigInt(total) }])
  t.equal(gateway.refunded.length, 1)
})

t.test('a clerk with the scope for refunds gives money back in parts, once for each key and no more than was charged', async t => {
  const { place, move, ask, token, gateway, events, payments } = await start(t, ['charge'])
  const { id, total } = await place()
  const clerk = token('clerk', { refunds: true })
  const refund = async (amount: number | undefined, key: string = randomUUID(), as = clerk) => await ask<Problem & { id: string, state: string }>('POST', `/orders/${id}/refunds`, { token: as, body: { ...amount !== undefined && { amount }, reason: 'flat' }, headers: { 'idempotency-key': key } })
  t.match(await refund(100), { status: 409, body: { type: '/problems/not-refundable' } }, 'nothing was charged yet')
  await move(id, 'pay')
  t.match(await refund(100, randomUUID(), token('alice')), { status: 403 })
  t.match(await refund(100, randomUUID(), token('boss', { staff: true })), { status: 403 })
  const first = await refund(100, 'k1')
  t.match(first, { status: 201, body: { state: 'refunded' } })
  t.match(await refund(100, 'k1'), { status: 201, headers: { 'idempotent-replayed': 'true' }, body: { id: first.body.id } })
  t.match(await refund(101, 'k1'), { status: 422 })
  t.match(await refund(total - 99), { status: 409, body: { type: '/problems/not-refundable', refundable: total - 100 } })
  t.match(await refund(undefined), { status: 201 }, 'all that is left')
  t.match(await refund(1), { status: 409 })
  t.same(gateway.refunded.map(({ amount }) => amount), [100n, BigInt(total - 100)])
  t.same(await events(id), ['placed', 'paid', 'refunded', 'refunded'])
  t.equal((await payments(id))[0]?.refunds.length, 2)
  t.match(await move(id, 'cancel'), { status: 200 })
  t.equal(gateway.refunded.length, 2, 'there is nothing left to give back')
})

t.test('the next process settles a payment that an earlier one left open', async t => {
  const first = await start(t, ['hang'])
  const { id } = await first.place()
  const paying = first.move(id, 'pay').catch(() => undefined)
  await until(async () => first.gateway.calls.length > 0)
  first.gateway.plan = ['charge']
  const second = await startApp(t, { payments: first.gateway, databaseUrl: first.databaseUrl })
  await first.hurry()
  await second.app.payments.wake()
  await until(async () => (await first.order(id)).status === 'paid')
  t.equal(first.gateway.charged.length, 1)
  await paying
  t.match(await first.payments(id), [{ state: 'charged' }], 'what the first process learns later changes nothing')
})

t.test('an order that costs nothing is paid without the gateway', async t => {
  const { ask, token, move, gateway, sql } = await start(t, ['decline'])
  await sql.query("INSERT INTO products VALUES ('water', 'Tap water', 0, 'EUR', 10)")
  const { body: { id } } = await ask<Order>('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'water', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
  t.match(await move(id, 'pay'), { status: 200, body: { status: 'paid' } })
  t.same(gateway.calls, [])
})

t.test('the payments of another customer are not found', async t => {
  const { place, move, ask, token } = await start(t, ['charge'])
  const { id } = await place()
  await move(id, 'pay')
  t.match(await ask('GET', `/orders/${id}/payments`, { token: token('mallory') }), { status: 404 })
  t.match(await ask('POST', `/orders/${id}/pay`, { token: token('mallory') }), { status: 404 })
})
