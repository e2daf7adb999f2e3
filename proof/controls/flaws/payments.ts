import type { Target } from '../../../verify/target.ts'
import type { Flaw, Setting } from './flaw.ts'
import { sabotaged } from '../sabotage.ts'
import { changeFunction, withSql } from './sql.ts'

/** An open payment is settled when its lease is over, and half of these flaws leave something open forever. */
const setting: Setting = { scenario: 'payments', duration: 15_000, coda: 1_000, restLimitMs: 25_000 }

/** Flaws in the functions that keep an order's money correct, and in the calls to the gateway. Each takes most of a minute, because a lease has to expire. */
export const flawsOfPayments: readonly Flaw[] = [
  {
    name: 'new-key-at-retry',
    broken: 'The settler charges a payment with a new key at each try',
    expected: 'chargedTwice',
    byName: true,
    setting,
    break: target => broken(target, 'claim_payments', 'SELECT claimed.id,', 'SELECT gen_random_uuid(),')
  },
  {
    name: 'charge-without-asking',
    broken: 'The settler charges a payment without asking for its outcome first, and the gateway has forgotten its key',
    expected: 'chargedTwice',
    byName: true,
    isSaboteur: true,
    // Only payments that were under way when the service was killed are asked for so late.
    setting: { ...setting, duration: 30_000 },
    break: target => sabotaged(target, 'charge-without-asking', null)
  },
  {
    name: 'paid-before-charged',
    broken: 'An order is paid as soon as its payment is stored',
    expected: 'paidUncharged',
    byName: true,
    setting,
    break: target => broken(target, 'begin_payment', 'IF paying.total = 0 THEN', 'IF true THEN')
  },
  {
    name: 'unknown-is-declined',
    broken: 'An unknown outcome of the gateway is stored as declined',
    expected: 'declinedCharged',
    byName: true,
    setting,
    break: target => broken(target, 'settle_payment', "WHEN payment.state = 'requested' THEN 'unknown'", "WHEN payment.state = 'requested' THEN 'declined'")
  },
  {
    name: 'another-amount-at-retry',
    broken: 'The settler charges one minor unit more than was requested',
    expected: 'paidUncharged',
    byName: true,
    setting,
    break: target => broken(target, 'claim_payments', 'claimed.amount,', 'claimed.amount + 1,')
  },
  {
    name: 'refund-forgotten',
    broken: 'A cancellation refunds nothing',
    expected: 'wrongRefund',
    byName: true,
    setting,
    break: target => broken(target, 'give_back', 'IF amount > 0 THEN', 'IF false THEN')
  }
]

function broken (target: Target, name: string, part: string, by: string): Target {
  return withSql(target, async client => await changeFunction(client, name, [[part, by]]))
}
