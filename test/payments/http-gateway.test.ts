import { createHmac, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startApp } from '../app.ts'
import { hangs, startCalled, type Behaviour } from '../called.ts'
import { valueOf } from '../exposition.ts'

interface Order { id: string, status: string, total: number }
interface Charge { id: string, state: string, amount: number }

const notifySecret = 'a secret of the gateway, for tests'

t.test('the gateway at PAYMENTS_URL charges an order once, by the id of its payment', async t => {
  const { place, pay, charges, gateway, app, ask, token } = await start(t)
  const { id, total } = await place()
  t.match(await pay(id), { status: 200, body: { status: 'paid' } })
  const [{ method, path, headers, body } = { method: '', path: '', headers: {}, body: '' }] = gateway.received
  t.equal(method, 'PUT')
  t.match(headers, { authorization: 'Bearer hunter2' })
  t.match(JSON.parse(body), { order: id, customer: 'alice', amount: total, currency: 'EUR', capture: true })
  const { body: { payments } } = await ask<{ payments: Array<{ id: string }> }>('GET', `/orders/${id}/payments`, { token: token('alice') })
  t.same(payments.map(payment => `/v1/charges/${payment.id}`), [path])
  t.equal(charges.size, 1)
  t.equal(valueOf(await app.metrics.render(), 'outbound_call_duration_seconds_count', { service: 'PAYMENTS_URL', call: 'charge', outcome: 'answered' }), 1)
})

t.test('a charge whose answer is lost is found once the gateway notifies, and is made once', async t => {
  const { place, pay, charges, gateway, order, notify, answer } = await start(t)
  gateway.behave((request, response) => {
    answer(request, response)
    response.destroy()
  })
  const { id } = await place()
  t.match(await pay(id), { status: 503, body: { type: '/problems/outcome-unknown' } })
  gateway.behave(answer)
  const [charge] = charges.keys()
  t.equal((await notify(charge ?? '')).status, 204)
  while ((await order(id)).status !== 'paid') await delay(20)
  t.equal(charges.size, 1)
})

t.test('a payment gets not-started if the gateway cannot be reached', async t => {
  const { place, pay, gateway, order } = await start(t)
  const { id } = await place()
  await gateway.stop()
  t.match(await pay(id), { status: 503, body: { type: '/problems/not-started' } })
  t.match(await order(id), { status: 'placed' })
})

t.test('a gateway that accepts and never answers delays no other request and no stop', async t => {
  const { place, pay, gateway, ask, token, app } = await start(t, { PAYMENTS_TIMEOUT_MS: '2000' })
  const orders = await Promise.all(Array.from({ length: 10 }, place))
  gateway.behave(hangs)
  const held = orders.map(({ id }) => pay(id))
  await gateway.reached(10)
  for (const path of ['/products', '/orders', '/livez', '/readyz']) t.equal((await ask('GET', path, { token: token('alice') })).status, 200, path)
  t.equal((await place()).status, 'placed')
  t.equal((await app.drain.start('test')).exitCode, 0)
  t.match(await Promise.all(held), held.map(() => ({ status: 503, body: { type: '/problems/outcome-unknown' } })), 'each payment got outcome-unknown')
})

t.test('a call to the gateway during a stop has no more time than the stop has left', async t => {
  const { place, pay, gateway, app } = await start(t, { REQUEST_TIMEOUT_MS: '5000', DRAIN_DEADLINE_MS: '5000' })
  const { id } = await place()
  let release = (): void => {}
  const draining = new Promise<void>(resolve => {
    app.drain.on('draining', async () => {
      resolve()
      await new Promise<void>(resolve => { release = resolve })
    })
  })
  const stopped = app.drain.start('test')
  await draining
  t.match(await pay(id), { status: 200, body: { status: 'paid' } })
  t.ok(Number(gateway.received[0]?.headers['x-request-timeout-ms']) < 5_000 - 1_500)
  release()
  t.equal((await stopped).exitCode, 0)
})

t.test('the service takes no notifications without PAYMENTS_NOTIFY_SECRET', async t => {
  const { notify } = await start(t, { PAYMENTS_NOTIFY_SECRET: '' })
  t.equal((await notify(randomUUID())).status, 404)
})

async function start (t: Test, settings: Record<string, string> = {}) {
  const charges = new Map<string, Charge>()
  // It follows contracts/payments.yaml, as far as these tests need.
  const answer: Behaviour = ({ method, path, body }) => {
    const id = path.slice('/v1/charges/'.length)
    const found = charges.get(id)
    if (method === 'GET') return found === undefined ? { status: 404 } : { status: 200, body: found }
    const { capture, ...asked } = JSON.parse(body) as { capture: boolean, order: string, customer: string, amount: number, currency: string }
    const charge = found ?? { id, ...asked, state: capture ? 'charged' : 'authorised', reference: `ref-${charges.size}`, captured: capture ? asked.amount : 0, refunded: 0 }
    charges.set(id, charge)
    return { status: 200, body: charge }
  }
  const gateway = await startCalled(t, answer)
  const running = await startApp(t, { settings: { PAYMENTS_URL: `${gateway.url}/v1`, PAYMENTS_TOKEN: 'hunter2', PAYMENTS_NOTIFY_SECRET: notifySecret, ...settings } })
  const { ask, token } = running
  const alice = token('alice')
  return {
    ...running,
    gateway,
    charges,
    answer,
    place: async () => (await ask<Order>('POST', '/orders', { token: alice, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }] }, headers: { 'idempotency-key': randomUUID() } })).body,
    pay: async (id: string) => await ask<object>('POST', `/orders/${id}/pay`, { token: alice }),
    order: async (id: string) => (await ask<Order>('GET', `/orders/${id}`, { token: alice })).body,
    notify: async (id: string) => {
      const body = JSON.stringify({ type: 'charge.updated', id, at: new Date().toISOString() })
      const timestamp = String(Math.floor(Date.now() / 1_000))
      const signature = createHmac('sha256', notifySecret).update(`msg_1.${timestamp}.${body}`).digest('base64')
      return await ask('POST', '/payments/notifications', { body, headers: { 'webhook-id': 'msg_1', 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` } })
    }
  }
}
