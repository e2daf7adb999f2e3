import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { startApp, type AppOverrides } from '../app.ts'
import { TestGateway } from './gateway.ts'

interface Order { id: string, status: string, version: number, total: number }
interface Return {
  id: string
  items: Array<{ sku: string, quantity: number, unitPrice: number }>
  value: number
  refund: { id: string, amount: number, state: string, why: string } | null
}
interface Problem { type: string, sku: string, returnable: number }

/** Four pints at 520 and two bags of crisps at 150: 2,380. */
const round = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 4 }, { sku: 'crisps', quantity: 2 }] }
const stock = 1_000_000

async function start (t: Test, overrides: AppOverrides = {}) {
  const gateway = new TestGateway()
  const running = await startApp(t, { payments: gateway, ...overrides })
  const { ask, token, sql } = running
  const [alice, boss] = [token('alice'), token('boss', { staff: true })]
  return {
    ...running,
    gateway,
    alice,
    boss,
    paid: async (...further: string[]): Promise<string> => {
      const { body: { id } } = await ask<Order>('POST', '/orders', { token: alice, body: round, headers: { 'idempotency-key': randomUUID() } })
      for (const how of ['pay', ...further]) await ask('POST', `/orders/${id}/${how}`, { token: boss })
      return id
    },
    takeBack: async (id: string, body: object, key: string = randomUUID(), as = boss) => await ask<Return & Problem>('POST', `/orders/${id}/returns`, { token: as, body: { restock: true, ...body }, headers: { 'idempotency-key': key } }),
    stockOf: async (sku: string): Promise<number> => Number((await sql.query<{ stock: string }>('SELECT stock FROM products WHERE sku = $1', [sku])).rows[0]?.stock)
  }
}

async function until (is: () => boolean | Promise<boolean>): Promise<void> {
  while (!await is()) await new Promise(resolve => setImmediate(resolve))
}

t.test('a return before the shipment gives back stock and money, and makes an event', async t => {
  const messages: Array<{ type: string, detail?: unknown }> = []
  const { ask, alice, paid, takeBack, stockOf, gateway } = await start(t, { publisher: { publish: async batch => { messages.push(...batch) } } })
  const id = await paid()
  const returned = await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 1 }], reason: 'keg is empty' })
  t.match(returned, { status: 201, body: { orderId: id, items: [{ sku: 'ale-pint', quantity: 1, unitPrice: 520 }], value: 520, restock: true, refund: { amount: 520, why: 'returned' }, reason: 'keg is empty' } })
  await until(() => gateway.refunded.length === 1)
  t.same(gateway.refunded, [{ id: returned.body.refund?.id, amount: 520n }])
  t.equal(await stockOf('ale-pint'), stock - 3)
  t.match((await ask('GET', `/orders/${id}`, { token: alice })).body, { status: 'paid', total: 2_380 })
  await until(() => messages.some(({ type }) => type === 'refunded'))
  const happened = messages.find(({ type }) => type === 'returned')
  t.match(happened?.detail, { items: [{ sku: 'ale-pint', quantity: 1 }], restock: true, refund: { id: returned.body.refund?.id, amount: 520 } })
  t.match((await ask('GET', `/orders/${id}/returns`, { token: alice })).body, { returns: [{ id: returned.body.id, refund: { state: 'refunded' } }] })
  t.equal((await ask('GET', `/orders/${id}/returns`, { token: (await start(t)).token('mallory') })).status, 404)
})

t.test('a return after the shipment restocks its items or not, and refunds them or not', async t => {
  const { paid, takeBack, stockOf, gateway } = await start(t)
  const id = await paid('ship', 'deliver')
  t.match(await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 1 }], restock: false }), { status: 201, body: { refund: { amount: 520 } } })
  t.equal(await stockOf('ale-pint'), stock - 4)
  t.match(await takeBack(id, { items: [{ sku: 'crisps', quantity: 2 }], refund: false }), { status: 201, body: { value: 300, refund: null } })
  t.equal(await stockOf('crisps'), stock)
  await until(() => gateway.refunded.length === 1)
  t.same(gateway.refunded.map(({ amount }) => amount), [520n])
})

t.test('returns take back no more of a line than it has, and give back no more money than was paid', async t => {
  const { ask, token, paid, takeBack, gateway } = await start(t)
  const id = await paid()
  t.equal((await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 3 }] })).status, 201)
  t.match(await takeBack(id, { items: [{ sku: 'crisps', quantity: 1 }, { sku: 'ale-pint', quantity: 2 }] }), { status: 409, body: { type: '/problems/not-returnable', sku: 'ale-pint', returnable: 1 } })
  t.match(await takeBack(id, { items: [{ sku: 'malt-1989', quantity: 1 }] }), { status: 409, body: { sku: 'malt-1989', returnable: 0 } })
  t.match(await takeBack(id, { items: [{ sku: 'crisps', quantity: 1 }, { sku: 'crisps', quantity: 1 }] }), { status: 400 })
  t.equal((await ask('POST', `/orders/${id}/refunds`, { token: token('clerk', { refunds: true }), body: { amount: 800 }, headers: { 'idempotency-key': 'goodwill' } })).status, 201)
  t.match(await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 1 }, { sku: 'crisps', quantity: 2 }] }), { status: 201, body: { value: 820, refund: { amount: 20 } } }, '2,360 of 2,380 were given back before')
  await until(() => gateway.refunded.length === 3)
  t.equal(gateway.refunded.reduce((sum, { amount }) => sum + amount, 0n), 2_380n)
})

t.test('a key takes a part back once, even for requests at once, and is refused with another body', async t => {
  const { paid, takeBack, stockOf, gateway } = await start(t)
  const id = await paid()
  const body = { items: [{ sku: 'crisps', quantity: 1 }, { sku: 'ale-pint', quantity: 1 }] }
  const answers = await Promise.all([1, 2, 3].map(async () => await takeBack(id, body, 'k1')))
  t.same(answers.map(({ status }) => status), [201, 201, 201])
  t.equal(new Set(answers.map(({ body: { id } }) => id)).size, 1)
  t.equal(answers.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, 2)
  for (const other of [{ ...body, restock: false }, { ...body, refund: false }, { ...body, reason: 'flat' }, { items: [{ sku: 'crisps', quantity: 1 }] }]) t.equal((await takeBack(id, other, 'k1')).status, 422)
  t.equal((await takeBack(await paid(), body, 'k1')).status, 422, 'the key is refused for another order, too')
  t.equal(await stockOf('ale-pint'), stock - 7)
  await until(() => gateway.refunded.length > 0)
  t.same(gateway.refunded.map(({ amount }) => amount), [670n])
})

t.test('one key for two orders at once takes back a part of only one of them', async t => {
  const { paid, takeBack, stockOf } = await start(t)
  const ids = [await paid(), await paid()]
  const answers = await Promise.all(ids.map(async id => await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 1 }] }, 'k1')))
  t.same(answers.map(({ status }) => status).sort(), [201, 422])
  t.equal(await stockOf('ale-pint'), stock - 7)
})

t.test('the cancellation of an order with returns gives back only the rest of its stock and money', async t => {
  const { ask, alice, paid, takeBack, stockOf, gateway } = await start(t)
  const id = await paid()
  await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 1 }] })
  await takeBack(id, { items: [{ sku: 'ale-pint', quantity: 2 }], restock: false })
  t.match(await ask('POST', `/orders/${id}/cancel`, { token: alice }), { status: 200 })
  t.equal(await stockOf('ale-pint'), stock - 2, 'the two that were not restocked stay out of the stock')
  t.equal(await stockOf('crisps'), stock)
  await until(() => gateway.refunded.length === 3)
  t.equal(gateway.refunded.reduce((sum, { amount }) => sum + amount, 0n), 2_380n)
  t.match(await takeBack(id, { items: [{ sku: 'crisps', quantity: 1 }] }), { status: 409, body: { type: '/problems/transition-not-allowed', orderStatus: 'cancelled' } })
})

t.test('an order can be returned once its payment is captured, and not before', async t => {
  const { ask, alice, boss, paid, takeBack, stockOf } = await start(t, { settings: { PAYMENTS_CAPTURE: 'ship' } })
  const placed = (await ask<Order>('POST', '/orders', { token: alice, body: round, headers: { 'idempotency-key': randomUUID() } })).body.id
  const part = { items: [{ sku: 'ale-pint', quantity: 1 }] }
  t.match(await takeBack(placed, part), { status: 409, body: { type: '/problems/transition-not-allowed', orderStatus: 'placed' } })
  const id = await paid()
  t.match(await takeBack(id, part), { status: 409, body: { type: '/problems/payment-under-way' } })
  t.equal(await stockOf('ale-pint'), stock - 8)
  t.match(await ask('POST', `/orders/${id}/ship`, { token: boss }), { status: 200 })
  t.match(await takeBack(id, part), { status: 201, body: { refund: { amount: 520 } } })
})

t.test('a return of an order that the previous version marked as paid gives back stock and no money', async t => {
  const { app, ask, alice, takeBack, stockOf } = await start(t)
  const { body: { id } } = await ask<Order>('POST', '/orders', { token: alice, body: round, headers: { 'idempotency-key': randomUUID() } })
  await app.orders.store.transition('pay', id, null, null)
  t.match(await takeBack(id, { items: [{ sku: 'crisps', quantity: 2 }] }), { status: 201, body: { value: 300, refund: null } })
  t.equal(await stockOf('crisps'), stock)
})

t.test('only staff can make a return', async t => {
  const { alice, paid, takeBack } = await start(t)
  t.equal((await takeBack(await paid(), { items: [{ sku: 'crisps', quantity: 1 }] }, 'k1', alice)).status, 403)
})
