import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { NotCalled, type Call, type ChargeRequest, type RefundRequest } from '../../orders/ports.ts'
import { httpPayments } from '../../plugins/http-payments.ts'
import { Unclear } from '../../plugins/outbound.ts'
import { startCalled, type Behaviour } from '../called.ts'

const charge: ChargeRequest = { id: randomUUID(), order: randomUUID(), customer: 'alice', amount: 9_007_199_254_740_991n, currency: 'EUR', captures: true }
const refund: RefundRequest = { id: randomUUID(), charge: charge.id, amount: 120n, currency: 'EUR' }
const chargeBody = { id: charge.id, order: charge.order, customer: 'alice', state: 'charged', reference: 'gw-1', amount: 9_007_199_254_740_991, currency: 'EUR', captured: 9_007_199_254_740_991, refunded: 0 }
const refundBody = { id: refund.id, charge: charge.id, state: 'refunded', reference: 'gw-2', amount: 120, currency: 'EUR' }

t.test('each call of the gateway follows the contract', async t => {
  const { payments, called } = await start(t, ({ path }) => ({ status: 200, body: path.includes('refunds') ? refundBody : chargeBody }), '/v1/')
  const charged = { state: 'charged', reference: 'gw-1', amount: 9_007_199_254_740_991n, currency: 'EUR' }
  t.same(await payments.charge(charge, plenty()), charged)
  t.same(await payments.charge({ ...charge, captures: false }, plenty()), charged)
  t.same(await payments.capture(charge.id, 500n, plenty()), charged)
  t.same(await payments.void(charge.id, plenty()), charged)
  t.same(await payments.find(charge.id, plenty()), charged)
  t.same(await payments.refund(refund, plenty()), { state: 'refunded', reference: 'gw-2', amount: 120n })
  t.same(await payments.findRefund(refund.id, plenty()), { state: 'refunded', reference: 'gw-2', amount: 120n })
  const { id, captures, ...asked } = charge
  t.same(called.received.map(({ method, path, body }) => [method, path, body === '' ? null : JSON.parse(body)]), [
    ['PUT', `/v1/charges/${id}`, { ...asked, amount: 9_007_199_254_740_991, capture: captures }],
    ['PUT', `/v1/charges/${id}`, { ...asked, amount: 9_007_199_254_740_991, capture: false }],
    ['POST', `/v1/charges/${id}/capture`, { amount: 500 }],
    ['POST', `/v1/charges/${id}/void`, null],
    ['GET', `/v1/charges/${id}`, null],
    ['PUT', `/v1/refunds/${refund.id}`, { charge: id, amount: 120, currency: 'EUR' }],
    ['GET', `/v1/refunds/${refund.id}`, null]
  ])
  for (const { headers } of called.received) t.match(headers, { authorization: 'Bearer hunter2', 'x-request-timeout-ms': /^\d+$/ })
})

t.test('a declined charge is an answer, with its reason', async t => {
  const { payments } = await start(t, () => ({ status: 200, body: { ...chargeBody, state: 'declined', reason: `no\0money${'!'.repeat(300)}`, captured: 0 } }))
  for (let time = 0; time < 10; time++) {
    const { state, reason } = await payments.charge(charge, plenty())
    t.equal(state, 'declined')
    t.match(reason, /^nomoney!{1,192}$/)
  }
})

t.test('a pending charge has the URL where the customer acts', async t => {
  const { payments } = await start(t, () => ({ status: 200, body: { ...chargeBody, state: 'pending', actionUrl: 'https://bank.example/confirm?1' } }))
  t.match(await payments.charge(charge, plenty()), { state: 'pending', actionUrl: 'https://bank.example/confirm?1' })
})

t.test('an id that the gateway does not know has no charge and no refund', async t => {
  const { payments } = await start(t, () => ({ status: 404 }))
  t.equal(await payments.find(charge.id, plenty()), undefined)
  t.equal(await payments.findRefund(refund.id, plenty()), undefined)
  await t.rejects(payments.capture(charge.id, 1n, plenty()), Unclear, 'its capture is unclear')
  await t.rejects(payments.charge(charge, plenty()), Unclear)
})

t.test('a charge that cannot be captured or voided is returned as it is', async t => {
  const { payments } = await start(t, () => ({ status: 409, body: { ...chargeBody, state: 'voided' } }))
  t.match(await payments.capture(charge.id, 1n, plenty()), { state: 'voided' })
  t.match(await payments.void(charge.id, plenty()), { state: 'voided' })
  await t.rejects(payments.charge(charge, plenty()), Unclear, 'an id that was used for another charge is unclear')
})

const wrong: Record<string, Behaviour> = {
  'no JSON': () => ({ status: 200, body: '<html>hunter2' }),
  'an unknown state': () => ({ status: 200, body: { ...chargeBody, state: 'paid' } }),
  'an amount that is not whole': () => ({ status: 200, body: { ...chargeBody, amount: 0.1 } }),
  'an amount that no number holds exactly': () => ({ status: 200, body: JSON.stringify(chargeBody).replace('"amount":9007199254740991', '"amount":9007199254740993') }),
  'an amount as text': () => ({ status: 200, body: { ...chargeBody, amount: '520' } }),
  'no reference': () => ({ status: 200, body: { ...chargeBody, reference: '' } }),
  'a reference that cannot be stored': () => ({ status: 200, body: { ...chargeBody, reference: 'a\0b' } }),
  'a script for the customer': () => ({ status: 200, body: { ...chargeBody, actionUrl: 'javascript:alert(1)' } }),
  'another charge': () => ({ status: 200, body: { ...chargeBody, id: randomUUID() } }),
  'another amount': () => ({ status: 200, body: { ...chargeBody, amount: 521 } }),
  'another currency': () => ({ status: 200, body: { ...chargeBody, currency: 'USD' } })
}
for (const [what, behaviour] of Object.entries(wrong)) {
  t.test(`an answer of the gateway with ${what} is unclear, and is logged without its content`, async t => {
    const { payments, called, lines } = await start(t, behaviour)
    await t.rejects(payments.charge(charge, plenty()), Unclear)
    t.equal(called.received.length, 1, 'it is not asked again at once')
    t.match(lines, [/breaks its contract/])
    t.notMatch(lines.join(), /hunter2|alice|javascript/)
  })
}

t.test('an answer with a refund of another amount or charge is unclear', async t => {
  for (const body of [{ ...refundBody, amount: 121 }, { ...refundBody, charge: randomUUID() }, { ...refundBody, currency: 'USD' }, { ...refundBody, state: 'charged' }]) {
    const { payments } = await start(t, () => ({ status: 200, body }))
    await t.rejects(payments.refund(refund, plenty()), Unclear)
  }
})

t.test('the settler can look for a charge while the breaker of charges is open', async t => {
  const { payments, called } = await start(t, () => ({ status: 503 }))
  for (let time = 0; time < 5; time++) await t.rejects(payments.charge(charge, plenty()))
  await t.rejects(payments.charge(charge, plenty()), NotCalled)
  called.behave(() => ({ status: 200, body: chargeBody }))
  t.match(await payments.find(charge.id, plenty()), { state: 'charged' })
})

function plenty (): Call {
  return { signal: new AbortController().signal, remainingMs: 60_000 }
}

async function start (t: Test, behaviour: Behaviour, path = '') {
  const called = await startCalled(t, behaviour)
  const lines: string[] = []
  const keep = (details: object, message: string): void => { lines.push(`${message} ${JSON.stringify(details)}`) }
  const payments = httpPayments({ url: called.url + path, token: 'hunter2', timeoutMs: 30_000, log: { info: keep, warn: keep }, breakMs: 60_000 })
  t.teardown(() => payments.close())
  return { payments, called, lines }
}
