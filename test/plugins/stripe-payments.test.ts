import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { exponentOf } from '../../orders/money.ts'
import { NotCalled, type Call, type ChargeRequest } from '../../orders/ports.ts'
import { Unclear } from '../../plugins/outbound.ts'
import { stripeAmountOf, stripePayments, stripeWebhooks, type StripePaymentsOptions } from '../../plugins/stripe-payments.ts'
import { keepsThePort } from '../payments/port.ts'
import { startStripeStandIn, stripeSignature } from '../stripe-stand-in.ts'

const cards: Record<string, string | undefined> = { alice: 'pm_card_visa', poor: 'pm_card_visa_chargeDeclinedInsufficientFunds', careful: 'pm_card_threeDSecure2Required' }

t.test('the Stripe adapter keeps the contract of the payments port', async t => {
  const { payments } = await start(t)
  await keepsThePort(t, payments, { declined: 'poor' })
})

t.test('a sale is a PaymentIntent that is confirmed and captured at once, with the payment id as its idempotency key', async t => {
  const { payments, stripe } = await start(t)
  const request = charge({ amount: 1_040n })
  const made = await payments.charge(request, plenty())
  t.same(made, { state: 'charged', reference: 'pi_1', amount: 1_040n, currency: 'EUR' })
  const [{ method, path, headers, body } = { method: '', path: '', headers: {}, body: '' }] = stripe.received
  t.match({ method, path }, { method: 'POST', path: '/v1/payment_intents' })
  t.match(headers, { authorization: 'Bearer sk_test_hunter2', 'idempotency-key': request.id, 'content-type': 'application/x-www-form-urlencoded', 'stripe-version': /^\d{4}-\d\d-\d\d/ })
  t.match(Object.fromEntries(new URLSearchParams(body)), { amount: '1040', currency: 'eur', confirm: 'true', capture_method: 'automatic', 'metadata[payment_id]': request.id, 'metadata[order_id]': request.order, customer: 'cus_alice' })
  t.same(await payments.charge(request, plenty()), made, 'a retry returns the same')
  t.equal(stripe.intents.length, 1)
  await t.rejects(payments.charge({ ...request, amount: 9n }, plenty()), Unclear, 'a key that was used for another charge is unclear')
})

t.test('an authorised charge is captured or voided later, and once', async t => {
  const { payments, stripe } = await start(t)
  const taken = charge({ captures: false })
  t.match(await payments.charge(taken, plenty()), { state: 'authorised' })
  t.match(await payments.capture(taken.id, taken.amount, plenty()), { state: 'charged', amount: taken.amount })
  t.match(await payments.capture(taken.id, taken.amount, plenty()), { state: 'charged' })
  t.match(await payments.void(taken.id, plenty()), { state: 'charged' }, 'a captured charge cannot be voided, and is returned as it is')
  const left = charge({ captures: false })
  await payments.charge(left, plenty())
  t.match(await payments.void(left.id, plenty()), { state: 'voided' })
  t.match(await payments.capture(left.id, left.amount, plenty()), { state: 'voided' })
  t.same(stripe.intents.map(({ status }) => status), ['canceled', 'succeeded'])
})

t.test('a declined charge has its reason, also by find', async t => {
  const { payments } = await start(t)
  const request = charge({ customer: 'poor' })
  t.match(await payments.charge(request, plenty()), { state: 'declined', reference: 'pi_1', reason: 'insufficient_funds' })
  t.match(await payments.find(request.id, plenty()), { state: 'declined', reason: 'insufficient_funds' })
  t.match(await payments.charge(charge({ customer: 'nobody' }), plenty()), { state: 'declined', reason: 'no-payment-method' })
  t.match(await payments.charge(charge({ amount: 100_000_000n }), plenty()), { state: 'declined', reason: 'amount_too_large' })
})

t.test('a charge that the customer has to confirm at the bank is pending until that is done', async t => {
  const { payments, stripe } = await start(t)
  for (const passes of [true, false]) {
    const request = charge({ customer: 'careful' })
    const { state, actionUrl, reference } = await payments.charge(request, plenty())
    t.match({ state, actionUrl }, { state: 'pending', actionUrl: /^https:\/\/hooks\.stripe\.com\// })
    t.match(await payments.find(request.id, plenty()), { state: 'pending' })
    stripe.confirm(reference, passes)
    t.match(await payments.find(request.id, plenty()), passes ? { state: 'charged' } : { state: 'declined', reason: 'payment_intent_authentication_failure' })
  }
})

t.test('another process finds a new charge in the list, because the search lags, and an old one by the search', async t => {
  const { payments, stripe, another } = await start(t)
  for (let index = 0; index < 150; index++) await payments.charge(charge(), plenty())
  const sought = stripe.intents.at(-3)?.metadata.payment_id ?? ''
  t.match(await another().find(sought, plenty()), { state: 'charged', reference: 'pi_3' })
  t.equal(await another().find(uuidv7(Date.now()), plenty()), undefined)

  stripe.index()
  for (const intent of stripe.intents) intent.created -= 100_000
  t.match(await another().find(sought, plenty()), { state: 'charged', reference: 'pi_3' })
})

t.test('a find is unclear if there are too many charges to look at', async t => {
  const { payments, stripe, another } = await start(t)
  await payments.charge(charge(), plenty())
  const [one] = stripe.intents
  if (one !== undefined) stripe.intents.push(...Array.from({ length: 1_100 }, (_, index) => ({ ...one, id: `pi_x${index}` })))
  await t.rejects(another().find(uuidv7(Date.now()), plenty()), Unclear)
})

t.test('a charge whose answer is lost is repeated with the same key, and is one charge', async t => {
  const { payments, stripe } = await start(t)
  stripe.loseNext()
  const request = charge()
  t.match(await payments.charge(request, plenty()), { state: 'charged', reference: 'pi_1' })
  t.same(stripe.received.map(({ headers }) => headers['idempotency-key']), [request.id, request.id])
  t.equal(stripe.intents.length, 1)
})

t.test('a charge that is not found is not captured, voided or refunded', async t => {
  const { payments, stripe } = await start(t)
  const id = uuidv7(Date.now())
  await t.rejects(payments.capture(id, 1n, plenty()), NotCalled)
  await t.rejects(payments.void(id, plenty()), NotCalled)
  await t.rejects(payments.refund({ id: uuidv7(Date.now()), charge: id, amount: 1n, currency: 'EUR' }, plenty()), NotCalled)
  t.ok(stripe.received.every(({ method }) => method === 'GET'))
})

t.test('a charge is refunded in parts, each once, and not above its amount', async t => {
  const { payments, stripe, another } = await start(t)
  const request = charge({ amount: 1_000n })
  await payments.charge(request, plenty())
  const refund = (amount: bigint) => ({ id: uuidv7(Date.now()), charge: request.id, amount, currency: 'EUR' })
  const part = refund(300n)
  const made = await payments.refund(part, plenty())
  t.same(made, { state: 'refunded', reference: 're_1', amount: 300n })
  t.same(await payments.refund(part, plenty()), made)
  t.same(await another().findRefund(part.id, plenty()), made)
  t.equal(await payments.findRefund(uuidv7(Date.now()), plenty()), undefined)
  t.match(await payments.refund(refund(701n), plenty()), { state: 'failed', reason: 'invalid-request' })
  t.match(await payments.refund(refund(700n), plenty()), { state: 'refunded' })
  t.match(await payments.refund(refund(1n), plenty()), { state: 'failed', reason: 'charge_already_refunded' })
  t.equal(stripe.refunds.length, 2)
})

t.test('an amount is charged in the units that Stripe has for its currency, or not at all', async t => {
  const cases: Array<[amount: bigint, currency: string, stripe: bigint | undefined]> = [
    [1_040n, 'EUR', 1_040n],
    [500n, 'JPY', 500n],
    [5n, 'ISK', 500n],
    [700n, 'MGA', 7n],
    [710n, 'MGA', undefined],
    [5_120n, 'KWD', 5_120n],
    [5_124n, 'KWD', undefined],
    [500n, 'UGX', undefined],
    [500n, 'IQD', undefined],
    [500n, 'CLF', undefined],
    [9_007_199_254_740_991n, 'ISK', 900_719_925_474_099_100n]
  ]
  for (const [amount, currency, expected] of cases) t.equal(stripeAmountOf(amount, currency), expected, `${amount} ${currency}`)
  const { payments, stripe } = await start(t)
  t.match(await payments.charge(charge({ amount: 5n, currency: 'ISK' }), plenty()), { state: 'charged', amount: 5n, currency: 'ISK' })
  t.equal(stripe.intents[0]?.amount, 500)
  t.match(await payments.charge(charge({ amount: 5_124n, currency: 'KWD' }), plenty()), { state: 'declined', reason: 'currency-not-supported' })
  t.equal(stripe.intents.length, 1)
})

t.test('the exponents of currencies are those of ISO 4217, also where CLDR has others', async t => {
  const exponents = { EUR: 2, JPY: 0, KWD: 3, MGA: 2, HUF: 2, IQD: 3, CLF: 4, ISK: 0 }
  for (const [currency, exponent] of Object.entries(exponents)) t.equal(exponentOf(currency), exponent, currency)
  const digitsOf = (currency: string) => new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ?? 2
  const others = Intl.supportedValuesOf('currency').filter(currency => exponentOf(currency) !== digitsOf(currency))
  // CLDR leaves out digits that are no longer used; it never has more than there are.
  for (const currency of others) t.equal(digitsOf(currency), 0, currency)
})

t.test('an event of Stripe with a valid signature names the payment or the refund', async t => {
  const secret = 'whsec_a secret of the end point'
  const read = stripeWebhooks(secret)
  const id = randomUUID()
  const eventOf = (object: object) => JSON.stringify({ id: 'evt_1', object: 'event', type: 'payment_intent.succeeded', data: { object } })
  const readIt = (body: string, header = stripeSignature(body, secret)) => read({ 'stripe-signature': header }, Buffer.from(body))
  const paid = eventOf({ object: 'payment_intent', id: 'pi_1', metadata: { payment_id: id } })
  t.equal(readIt(paid), id)
  t.equal(readIt(eventOf({ object: 'refund', id: 're_1', metadata: { payment_id: randomUUID(), refund_id: id } })), id)
  for (const other of [eventOf({ object: 'customer', metadata: { payment_id: id } }), eventOf({ object: 'payment_intent', metadata: { payment_id: '../x' } }), eventOf({ object: 'payment_intent', metadata: {} }), '[]']) t.equal(readIt(other), undefined)
  for (const header of ['', stripeSignature(paid, 'another'), stripeSignature(`${paid} `, secret), stripeSignature(paid, secret, Date.now() - 301_000), stripeSignature(paid, secret).replace('v1=', 'v0='), 't=1,v1=']) t.throws(() => readIt(paid, header), /signature|its time/i, header)
  t.throws(() => read({}, Buffer.from(paid)), /no Stripe-Signature/)
})

function charge (overrides: Partial<ChargeRequest> = {}): ChargeRequest {
  return { id: uuidv7(Date.now()), order: randomUUID(), customer: 'alice', amount: 520n, currency: 'EUR', captures: true, ...overrides }
}

function plenty (): Call {
  return { signal: new AbortController().signal, remainingMs: 60_000 }
}

async function start (t: Test) {
  const stripe = await startStripeStandIn(t)
  const options: StripePaymentsOptions = {
    url: stripe.url,
    secretKey: 'sk_test_hunter2',
    timeoutMs: 30_000,
    log: { info: () => {}, warn: () => {} },
    returnUrl: 'https://shop.example/paid',
    payerOf: async customer => {
      const paymentMethod = cards[customer]
      return paymentMethod === undefined ? undefined : { customer: `cus_${customer}`, paymentMethod }
    }
  }
  const another = () => {
    const payments = stripePayments(options)
    t.teardown(() => payments.close())
    return payments
  }
  return { stripe, payments: another(), another }
}
