/** The largest stock that can be set. What is cancelled comes back on top of it. */
export const stockMax = 2_000_000_000

export interface Product {
  sku: string
  name: string
  /** Minor units of the currency. */
  unitPrice: bigint
  /** ISO 4217. */
  currency: string
  /** Of a withdrawn product: what there would be to sell. */
  stock: bigint
  /** No new order can have it. */
  withdrawn: boolean
  /** One more at each change, a sale among them. */
  version: bigint
}

/** What a product is to be; what is not given stays as it is. */
export interface ProductChange {
  sku: string
  name?: string | undefined
  unitPrice?: bigint | undefined
  currency?: string | undefined
  stock?: bigint | undefined
  withdrawn?: boolean | undefined
}

/** Which versions a change is for (If-Match), and which it is not for (If-None-Match). */
export interface VersionCondition {
  match?: 'any' | bigint[] | undefined
  noneMatch?: 'any' | bigint[] | undefined
}

/** A refusal means that nothing was changed; it comes with the product as it is, where there is one. */
export type Put =
  | { outcome: 'created' | 'updated', product: Product }
  /** A stock was given without a version that it replaces. */
  | { outcome: 'version-required', product: Product }
  | { outcome: 'version-mismatch', product: Product | null }
  | { outcome: 'not-found', product: null }

/** What was added to a stock, or taken from it, and why. */
export interface StockChange {
  /** UUIDv7. */
  id: string
  /** Of staff. */
  changedBy: string
  sku: string
  delta: bigint
  reason: string
  /** What the change made of it. */
  stock: bigint
  createdAt: Date
}

/** A refusal means that nothing was changed. */
export type StockChanged =
  | { outcome: 'changed' | 'replayed', change: StockChange }
  | { outcome: 'key-reused' | 'not-found' | 'out-of-stock' | 'stock-too-large' }
