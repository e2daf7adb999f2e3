import { test } from 'tap'
import type { OrderStored } from '../../target.ts'
import { add, exchanges, isCaught } from './damage.ts'

const row: OrderStored = {
  id: 'another', customer: 'alice', key: 'a key of nobody', status: 'placed', version: 1, currency: 'EUR', items: [{ sku: 'ale', quantity: 2, unitPrice: 520 }], total: 1_040, reference: null
}

test('an order that nobody asked for is a phantom', async t => {
  isCaught(t, 'phantom', draft => add(draft, row))
})

test('an order that is stored for another customer than the one of its key is a phantom', async t => {
  isCaught(t, 'phantom', (draft, pick) => add(draft, { ...row, key: pick(draft.second!.orders.filter(({ customer }) => customer !== 'alice')).key }))
})

test('a stored order is resurrected if every attempt at it was refused', async t => {
  isCaught(t, 'resurrected', (draft, pick) => {
    const places = exchanges(draft, ({ kind }) => kind === 'place').map(({ invocation, completion }) => ({ operation: invocation.operation, completion }))
    const unfinished = draft.history.filter(line => line.type === 'invoke' && !draft.history.some(other => other.type !== 'invoke' && 'op' in other && 'op' in line && other.op === line.op))
    const possible = new Set([
      ...places.filter(({ completion }) => completion.type !== 'fail').map(({ operation }) => operation),
      ...unfinished.flatMap(line => line.type === 'invoke' ? line.operation : [])
    ].flatMap(operation => operation.kind === 'place' ? operation.key : []))
    const refused = places.flatMap(({ operation }) => operation.kind === 'place' && !possible.has(operation.key) && operation.order.items.every(({ sku }) => sku === 'ale' || sku === 'pie') ? operation : [])
    const { customer, key, order: { items, reference = null } } = pick(refused)
    const priced = items.map(item => ({ ...item, unitPrice: item.sku === 'ale' ? 520 : 1_350 }))
    add(draft, { ...row, customer, key, items: priced, reference, total: priced.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0) })
  })
})

test('a refused body that is stored under a key whose other body is unknown is resurrected', async t => {
  isCaught(t, 'resurrected', draft => {
    const order = { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] }
    const place = { kind: 'place', customer: 'alice', key: row.key } as const
    draft.history.push(
      { type: 'invoke', op: 10_001, at: 1, scheduled: 1, purpose: 'new', operation: { ...place, order } },
      { type: 'info', op: 10_001, at: 2, error: 'ECONNRESET' },
      { type: 'invoke', op: 10_002, at: 3, scheduled: 3, purpose: 'reuse', operation: { ...place, order: { ...order, items: [{ sku: 'ale', quantity: 2 }] } } },
      { type: 'fail', op: 10_002, at: 4, status: 422, problem: 'idempotency-key-reused' }
    )
    add(draft, row)
  })
})
