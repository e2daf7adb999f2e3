import { test } from 'tap'
import { fingerprintOf, type OrderRequest } from '../../orders/order.ts'

const request: OrderRequest = { customer: 'alice', idempotencyKey: 'key', currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }, { sku: 'crisps', quantity: 1 }], reference: null }

test('a request keeps the fingerprint that earlier versions stored, so that its retries are replays', async t => {
  t.equal(fingerprintOf(request), 'df8747df730947d8483eff55ec5e38d3694aaab8588a1e65c7e1edbcd186d830')
  t.equal(fingerprintOf({ ...request, reference: 'table 7' }), 'fc8cda9cb3f493e620c04c9e40772e8f8d69d0378b0a0b05d824dab0772c1300')
  t.equal(fingerprintOf({ ...request, expectedTotal: 1190 }), 'e94dfc4a5b606964fc11f83c47c90bea0b08ad52ae8f351ab0021b7889bae08d')
})

test('requests of other content have other fingerprints', async t => {
  const others: OrderRequest[] = [
    request,
    { ...request, currency: 'USD' },
    { ...request, items: request.items.toReversed() },
    { ...request, items: [{ sku: 'ale-pint', quantity: 1 }, { sku: 'crisps', quantity: 1 }] },
    { ...request, reference: '' },
    { ...request, reference: '1190' },
    { ...request, expectedTotal: 1190 },
    { ...request, expectedTotal: 0 }
  ]
  t.equal(new Set(others.map(fingerprintOf)).size, others.length)
})
