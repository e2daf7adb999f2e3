import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp } from '../app.ts'
import { TestGateway } from './gateway.ts'

// The previous version knows no payments. It calls the functions below, on the same database, until its last instance is gone.

interface Order { id: string, status: string }

const gateway = new TestGateway()
const { ask, token, sql, app } = await startApp(t, { payments: gateway })
const alice = token('alice')

async function place (): Promise<string> {
  const { body } = await ask<Order>('POST', '/orders', { token: alice, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
  return body.id
}

const pay = async (id: string) => await ask<Order>('POST', `/orders/${id}/pay`, { token: alice })

/** Moves an order as the previous version does. */
async function before (
  id: string,
  allowed: string,
  target: string
): Promise<{ outcome: string, status: string, version: number, total: string, items: unknown[] } | undefined> {
  const { rows } = await sql.query<{ outcome: string, status: string, version: number, total: string, items: unknown[] }>('SELECT * FROM transition_order($1::uuid, $2, $3::order_status[], $4::order_status, NULL::integer[], NULL)', [id, 'alice', allowed, target])
  return rows[0]
}

async function refundsOf (id: string): Promise<string[]> {
  const { rows } = await sql.query<{ state: string }>('SELECT state FROM refunds WHERE order_id = $1', [id])
  return rows.map(({ state }) => state)
}

t.test('the previous version still marks orders as paid, and this version moves them on and refunds nothing', async t => {
  const id = await place()
  t.match(await before(id, '{placed}', 'paid'), { outcome: 'moved', status: 'paid', version: 2, total: '520', items: [{ sku: 'ale-pint', quantity: 1, unitPrice: 520 }] })
  t.match(await before(id, '{placed}', 'paid'), { outcome: 'already' })
  t.match(await pay(id), { status: 200, body: { status: 'paid' } })
  t.match(await ask('POST', `/orders/${id}/cancel`, { token: alice }), { status: 200 })
  t.same(await refundsOf(id), [])
  t.same(gateway.calls, [])
})

t.test('a charged order is refunded even if the previous version cancels it', async t => {
  const id = await place()
  await pay(id)
  t.match(await before(id, '{placed,paid}', 'cancelled'), { outcome: 'moved', status: 'cancelled', version: 3 })
  await app.payments.wake()
  while ((await refundsOf(id))[0] !== 'refunded');
  t.equal(gateway.refunded.length, 1)
})

t.test('the previous version neither pays nor cancels an order while its payment is unknown', async t => {
  gateway.plan = ['no answer']
  const id = await place()
  t.match(await pay(id), { status: 503 })
  t.match(await before(id, '{placed}', 'paid'), { outcome: 'not-allowed', status: 'placed' })
  t.match(await before(id, '{placed,paid}', 'cancelled'), { outcome: 'not-allowed', status: 'placed' })
  t.match(await before(randomUUID(), '{placed}', 'paid'), { outcome: 'not-found' })
  t.match((await sql.query("SELECT outcome FROM transition_order($1::uuid, 'mallory', '{placed}', 'paid', NULL::integer[], NULL)", [id])).rows, [{ outcome: 'not-found' }], 'another customer gets not-found, too')
})

t.test('the previous version publishes an event of this version with the status of its order', async t => {
  await sql.query("UPDATE outbox SET available_at = 'infinity'")
  gateway.plan = ['charge']
  const id = await place()
  await pay(id)
  await ask('POST', `/orders/${id}/refunds`, { token: token('clerk', { refunds: true }), body: { amount: 1 }, headers: { 'idempotency-key': randomUUID() } })
  await sql.query('BEGIN')
  // The lock keeps out the relay of this version.
  await sql.query('LOCK TABLE outbox IN SHARE ROW EXCLUSIVE MODE')
  await sql.query('DELETE FROM outbox_leases')
  await sql.query('UPDATE outbox SET available_at = CASE version WHEN 3 THEN now() - interval \'1 s\' END WHERE order_id = $1', [id])
  const { rows } = await sql.query('SELECT "orderId", version, type FROM claim_outbox(10, 30000)')
  await sql.query('COMMIT')
  t.same(rows.filter(({ orderId }: { orderId: string }) => orderId === id), [{ orderId: id, version: 3, type: 'paid' }])
})
