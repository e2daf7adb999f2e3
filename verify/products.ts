import type { Product } from './target.ts'

/** More stock than the longest run uses up. */
export const plentiful = 1_000_000_000

/**
 * The products of a run. The first is the hot one, whose row is contended. Those with little stock run out during the run, and
 * orders that are refused then must leave no trace. The last product with much stock gets another price now and then, and the
 * last one with little stock is restocked.
 */
export const products: readonly Product[] = [
  { sku: 'hot', name: 'What everybody wants', unitPrice: 999, currency: 'EUR', stock: plentiful },
  { sku: 'common-1', name: 'Common 1', unitPrice: 100, currency: 'EUR', stock: plentiful },
  { sku: 'common-2', name: 'Common 2', unitPrice: 1_995, currency: 'EUR', stock: plentiful },
  { sku: 'common-3', name: 'Common 3', unitPrice: 7, currency: 'EUR', stock: plentiful },
  { sku: 'common-4', name: 'Common 4', unitPrice: 123_456, currency: 'EUR', stock: plentiful },
  { sku: 'no-minor-unit', name: 'In a currency without minor units', unitPrice: 500, currency: 'JPY', stock: plentiful },
  { sku: 'repriced', name: 'Whose price changes', unitPrice: 1_000, currency: 'EUR', stock: plentiful },
  { sku: 'scarce-1', name: 'Scarce 1', unitPrice: 4_200, currency: 'EUR', stock: 40 },
  { sku: 'scarce-2', name: 'Scarce 2', unitPrice: 8_900, currency: 'EUR', stock: 1_000 },
  { sku: 'restocked', name: 'Of which more comes', unitPrice: 300, currency: 'EUR', stock: 60 }
]
