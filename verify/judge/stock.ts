import { type Case, type Looked, noRead } from './case.ts'

/** Nothing is sold that is not there, and what was not sold is there still. */
export function oversold ({ evidence, reads, findings }: Case): Looked {
  if (reads.length === 0) return noRead
  let looked: number | null = null
  for (const { snapshot: { orders, products } } of reads) {
    if (!products) continue
    const available = new Map(products.map(product => [product.sku, product.available]))
    const sold = new Map<string, number>()
    for (const { status, items } of orders) {
      if (status === 'cancelled') continue
      for (const { sku, quantity } of items) sold.set(sku, (sold.get(sku) ?? 0) + quantity)
    }
    for (const { sku, stock } of evidence.products) {
      looked = (looked ?? 0) + 1
      const left = available.get(sku)
      if (left !== undefined && left >= 0 && left + (sold.get(sku) ?? 0) === stock) continue
      findings.add('oversold', { sku }, `Of ${stock} ${sku}, ${sold.get(sku) ?? 0} are sold and ${left ?? 'none that is told of'} left.`)
    }
  }
  return looked === null ? { looked, because: 'The target does not tell its stock.' } : { looked }
}
