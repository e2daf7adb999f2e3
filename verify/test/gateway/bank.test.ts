import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Bank, type ChargeAsked } from '../../gateway/bank.ts'
import { Ledger, ledgerOf } from '../../gateway/ledger.ts'

const asked: ChargeAsked = { id: 'p1', order: 'o1', customer: 'alice', amount: 520, currency: 'EUR', capture: true }
const atOnce = () => 'at-once' as const

t.test('the bank charges an id once, however often it is asked, even by its next process', async t => {
  const { bank, path } = open(t)
  const first = bank.charge(asked, atOnce)
  t.match(first, { is: 'done', entry: { ...asked, state: 'charged', captured: 520, refunded: 0 } })
  t.strictSame(bank.charge(asked, atOnce), first)
  const again = open(t, { path })
  t.strictSame(again.bank.charge(asked, () => 'declined'), first)
  t.equal([...ledgerOf(path)].length, 1)
})

t.test('the same id with another amount is a conflict, and nothing is charged', async t => {
  const { bank, path } = open(t)
  bank.charge(asked, atOnce)
  t.strictSame(bank.charge({ ...asked, amount: 521 }, atOnce), { is: 'conflict' })
  t.equal([...ledgerOf(path)].length, 1)
})

t.test('a forgotten id is charged again, under another reference', async t => {
  const { bank, path } = open(t, { keysKeptMs: 0 })
  bank.charge(asked, atOnce)
  bank.charge({ ...asked, amount: 521 }, atOnce)
  const charges = [...ledgerOf(path)].flatMap(line => 'charge' in line ? line.charge : [])
  t.match(charges, [{ id: 'p1', amount: 520, state: 'charged' }, { id: 'p1', amount: 521, state: 'charged' }])
  t.not(charges[0]?.reference, charges[1]?.reference)
})

t.test('a declined charge takes nothing, and stays declined', async t => {
  const { bank } = open(t)
  const declined = bank.charge(asked, () => 'declined')
  t.match(declined, { is: 'done', entry: { state: 'declined', captured: 0, reason: String } })
  t.strictSame(bank.charge(asked, atOnce), declined)
})

t.test('a pending charge is charged or declined when it is settled', async t => {
  const { bank, ledger } = open(t)
  for (const [id, isDeclined, state] of [['p1', false, 'charged'], ['p2', true, 'declined']] as const) {
    t.match(bank.charge({ ...asked, id }, () => 'pending'), { is: 'done', entry: { state: 'pending', captured: 0 } })
    t.match(ledger.pending, [{ id }])
    bank.settle(id, isDeclined)
    t.match(ledger.charge(id), { entry: { state } })
  }
  t.strictSame(ledger.pending, [])
})

t.test('an authorised charge is captured once, or voided', async t => {
  const { bank } = open(t)
  for (const id of ['p1', 'p2']) t.match(bank.charge({ ...asked, id, capture: false }, atOnce), { is: 'done', entry: { state: 'authorised', captured: 0 } })
  for (let times = 0; times < 2; times++) t.match(bank.capture('p1', 520), { is: 'done', entry: { state: 'charged', captured: 520 } })
  for (let times = 0; times < 2; times++) t.match(bank.void('p2'), { is: 'done', entry: { state: 'voided' } })
  t.match(bank.void('p1'), { is: 'refused', entry: { state: 'charged' } })
  t.match(bank.capture('p2', 520), { is: 'refused', entry: { state: 'voided' } })
  t.strictSame(bank.capture('p3', 520), { is: 'none' })
  bank.charge({ ...asked, id: 'p4' }, () => 'pending')
  t.match(bank.void('p4'), { is: 'done', entry: { state: 'voided' } })
  bank.settle('p4', false)
  t.match(bank.void('p4'), { is: 'done', entry: { state: 'voided', captured: 0 } }, 'a voided pending charge is not captured later')
})

t.test('a refund gives money back once, and no more than was captured', async t => {
  const { bank, ledger } = open(t)
  bank.charge(asked, atOnce)
  for (let times = 0; times < 2; times++) t.match(bank.refund({ id: 'r1', charge: 'p1', amount: 500, currency: 'EUR' }, atOnce), { is: 'done', entry: { state: 'refunded', order: 'o1' } })
  t.match(bank.refund({ id: 'r2', charge: 'p1', amount: 21, currency: 'EUR' }, atOnce), { is: 'done', entry: { state: 'failed' } })
  t.match(bank.refund({ id: 'r3', charge: 'p1', amount: 20, currency: 'EUR' }, () => 'pending'), { is: 'done', entry: { state: 'pending' } })
  bank.settle('r3', true)
  t.match(ledger.refund('r3'), { entry: { state: 'refunded' } })
  t.match(ledger.charge('p1'), { entry: { refunded: 520 } })
  t.match(bank.refund({ id: 'r4', charge: 'p9', amount: 1, currency: 'EUR' }, atOnce), { is: 'done', entry: { state: 'failed' } })
})

t.test('half a ledger line of a killed process does not count, and does not spoil the next line', async t => {
  const { bank, path } = open(t)
  bank.charge(asked, atOnce)
  appendFileSync(path, '{"at":1,"charge":{"id":"p2"')
  const again = open(t, { path })
  t.equal(again.ledger.charge('p2'), undefined)
  again.bank.charge({ ...asked, id: 'p2' }, atOnce)
  t.match([...ledgerOf(path)], [{ charge: { id: 'p1' } }, { charge: { id: 'p2' } }])
})

function open (t: Test, { path = join(t.testdir(), 'ledger.jsonl'), keysKeptMs = 60_000 } = {}): { bank: Bank, ledger: Ledger, path: string } {
  const ledger = new Ledger(path)
  t.teardown(() => ledger.close())
  return { bank: new Bank({ ledger, keysKeptMs, onChange: () => {} }), ledger, path }
}
