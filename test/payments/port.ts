import { randomUUID } from 'node:crypto'
import { uuidv7 } from '../../commit/uuidv7.ts'
import type { Call, ChargeRequest, Payments } from '../../orders/ports.ts'
import type { Test } from 'tap'

/** Tests what the service relies on in every gateway. `declined` is a customer whose payments are declined. */
export async function keepsThePort (t: Test, payments: Payments, { declined }: { declined: string }): Promise<void> {
  const charge = (overrides: Partial<ChargeRequest> = {}): ChargeRequest => ({ id: uuidv7(Date.now()), order: randomUUID(), customer: 'alice', amount: 1_000n, currency: 'EUR', captures: true, ...overrides })
  const refund = (of: string, amount: bigint) => ({ id: uuidv7(Date.now()), charge: of, amount, currency: 'EUR' })

  await t.test('a gateway finds no charge and no refund that it was not asked for', async t => {
    t.equal(await payments.find(uuidv7(Date.now()), plenty()), undefined)
    t.equal(await payments.findRefund(uuidv7(Date.now()), plenty()), undefined)
  })

  await t.test('a charge is made once for its id, and found by it', async t => {
    const sale = charge()
    const made = await payments.charge(sale, plenty())
    t.match(made, { state: 'charged', amount: 1_000n, currency: 'EUR', reference: /./ })
    t.same(await payments.charge(sale, plenty()), made)
    t.same(await payments.find(sale.id, plenty()), made)
  })

  await t.test('a decline has a reason, and stays a decline', async t => {
    const request = charge({ customer: declined })
    const made = await payments.charge(request, plenty())
    t.match(made, { state: 'declined', amount: 1_000n, currency: 'EUR', reason: /./ })
    t.same(await payments.charge(request, plenty()), made)
    t.same(await payments.find(request.id, plenty()), made)
  })

  await t.test('an authorised charge is captured once, and not voided afterwards', async t => {
    const request = charge({ captures: false })
    t.match(await payments.charge(request, plenty()), { state: 'authorised', amount: 1_000n })
    const taken = await payments.capture(request.id, 1_000n, plenty())
    t.match(taken, { state: 'charged', amount: 1_000n })
    t.same(await payments.capture(request.id, 1_000n, plenty()), taken)
    t.match(await payments.void(request.id, plenty()), { state: 'charged' })
    t.same(await payments.find(request.id, plenty()), taken)
  })

  await t.test('an authorised charge is voided once, and not captured afterwards', async t => {
    const request = charge({ captures: false })
    await payments.charge(request, plenty())
    const left = await payments.void(request.id, plenty())
    t.match(left, { state: 'voided' })
    t.same(await payments.void(request.id, plenty()), left)
    t.match(await payments.capture(request.id, 1_000n, plenty()), { state: 'voided' })
  })

  await t.test('a charge is refunded once for each id, and never above its amount', async t => {
    const sale = charge()
    await payments.charge(sale, plenty())
    const part = refund(sale.id, 400n)
    const made = await payments.refund(part, plenty())
    t.match(made, { state: 'refunded', amount: 400n, reference: /./ })
    t.same(await payments.refund(part, plenty()), made)
    t.same(await payments.findRefund(part.id, plenty()), made)
    t.match(await payments.refund(refund(sale.id, 601n), plenty()), { state: 'failed', reason: /./ })
    t.match(await payments.refund(refund(sale.id, 600n), plenty()), { state: 'refunded' })
    t.match(await payments.refund(refund(sale.id, 1n), plenty()), { state: 'failed' })
  })
}

function plenty (): Call {
  return { signal: new AbortController().signal, remainingMs: 60_000 }
}
