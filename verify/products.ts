import type { Product } from './target.ts'

/** Stock that the longest run does not use up. */
export const plentiful = 1_000_000_000

/**
 * What is sold in a run. The first is the one that many want at once, so its row is contended; those with little stock
 * run out on the way, and what is refused then must have left no trace. The last that lasts gets another price now and then,
 * and the last that does not is restocked.
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
