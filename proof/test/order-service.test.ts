import t from 'tap'
import type { Operation } from '../../verify/history.ts'
import orderService from '../order-service.ts'

const place: Operation = { kind: 'place', customer: 'alice', key: 'k1', order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 2 }] } }
const order = { id: 'o1', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'ale', quantity: 2, unitPrice: 5 }], total: 10, reference: null }

t.test('a placed or replayed order is ok, with the order of the answer', async t => {
  const told = { ...order, customer: 'alice', createdAt: '2026-11-23T00:00:00Z' }
  const body = JSON.stringify({ ...told, more: 'of no use' })
  t.strictSame(understand(place, 201, body), { type: 'ok', order: told })
  t.strictSame(understand(place, 201, body, { 'idempotent-replayed': 'true', etag: '"1"', location: '/orders/o1', 'x-request-id': 'r1' }),
    { type: 'ok', requestId: 'r1', replayed: true, etag: '"1"', location: '/orders/o1', order: told })
})

t.test('a 202 to a payment does not count as paid: it says where to ask', async t => {
  const body = JSON.stringify({ ...order, payment: { id: 'p1', orderId: 'o1', state: 'unknown', amount: 10 } })
  t.strictSame(understand({ kind: 'pay', customer: 'alice', id: 'o1' }, 202, body, { location: '/orders/o1/payments/p1' }), { type: 'info', location: '/orders/o1/payments/p1', payment: { id: 'p1', state: 'unknown' } })
})

t.test('a refund is ok when it is stored, whether the money was returned already or not', async t => {
  const refund = { id: 'r1', state: 'unknown', amount: 4 }
  const operation: Operation = { kind: 'refund', customer: 'staff', staff: true, id: 'o1', key: 'k1', amount: 4 }
  for (const status of [201, 202]) t.strictSame(understand(operation, status, JSON.stringify({ ...refund, currency: 'EUR' })), { type: 'ok', refund })
})

t.test('a page is ok, with its orders and its next cursor', async t => {
  const list: Operation = { kind: 'list', customer: 'alice' }
  t.strictSame(understand(list, 200, JSON.stringify({ orders: [order], next: 'c' })), { type: 'ok', orders: [order], next: 'c' })
  t.strictSame(understand(list, 200, JSON.stringify({ orders: [], next: null })), { type: 'ok', orders: [] })
})

for (const [status, problem, type] of [
  [400, 'invalid-request', 'fail'],
  [404, 'not-found', 'fail'],
  [402, 'payment-declined', 'fail'],
  [409, 'out-of-stock', 'fail'],
  [409, 'payment-under-way', 'fail'],
  [422, 'idempotency-key-reused', 'fail'],
  [429, 'rate-limited', 'fail'],
  [503, 'not-started', 'fail'],
  [503, 'outcome-unknown', 'info'],
  [500, 'internal-error', 'info']
] as const) {
  t.test(`${status} ${problem} is ${type}`, async t => {
    t.strictSame(understand(place, status, JSON.stringify({ type: `/problems/${problem}`, status })), { type, problem })
  })
}

t.test('a 503 that the service did not write shows nothing about what was stored', async t => {
  t.strictSame(understand(place, 503, '<html>no server is available</html>'), { type: 'info', problem: 'http-503' })
})

t.test('the phases of a stop come from the report in the last line of the log', async t => {
  const report = JSON.stringify({ msg: 'stopped', drain: { phases: { draining: 0, closing: 12, aborted: null, closed: 34 } } })
  t.strictSame(orderService.phases?.(`{"msg":"closing"}\n${report}\n`), { draining: 0, closing: 12, closed: 34 })
  t.equal(orderService.phases?.(`${report}\n{"msg":"request completed"}\n`), undefined, 'a log that does not end with the report has none')
  t.equal(orderService.phases?.(''), undefined)
})

t.test('an order goes from placed to paid, shipped and delivered, and can be cancelled only before it is shipped', async t => {
  t.strictSame(orderService.transitions, {
    paid: ['shipped', 'cancelled'], placed: ['paid', 'cancelled'], shipped: ['delivered'], delivered: [], cancelled: []
  })
})

function understand (operation: Operation, status: number, body: string, headers: Record<string, string> = {}) {
  return orderService.understand(operation, { status, headers, body })
}
