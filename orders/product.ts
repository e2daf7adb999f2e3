/** The largest stock that can be set. Cancelled orders may raise a stock above it. */
export const stockMax = 2_000_000_000

export interface Product {
  sku: string
  name: string
  /** Minor units of the currency. */
  unitPrice: bigint
  /** ISO 4217. */
  currency: string
  /** Of a withdrawn product: the stock that it would have for sale. */
  stock: bigint
  /** Whether it is out of sale: no new order can have it. */
  withdrawn: boolean
  /** Each change adds 1, also a sale. */
  version: bigint
}

/** The new values of a product; those not given stay. */
export interface ProductChange {
  sku: string
  name?: string | undefined
  unitPrice?: bigint | undefined
  currency?: string | undefined
  stock?: bigint | undefined
  withdrawn?: boolean | undefined
}

/** The versions that a change requires (If-Match) or excludes (If-None-Match). */
export interface VersionCondition {
  match?: 'any' | bigint[] | undefined
  noneMatch?: 'any' | bigint[] | undefined
}

/** A refusal means that nothing was changed. It carries the product as it is, if there is one. */
export type Put =
  | { outcome: 'created' | 'updated', product: Product }
  /** The change has a stock, but no version that it replaces. */
  | { outcome: 'version-required', product: Product }
  | { outcome: 'version-mismatch', product: Product | null }
  | { outcome: 'not-found', product: null }

/** An amount added to a stock, or taken from it, and why. */
export interface StockChange {
  /** UUIDv7. */
  id: string
  /** The member of staff. */
  changedBy: string
  sku: string
  delta: bigint
  reason: string
  /** The stock after the change. */
  stock: bigint
  createdAt: Date
}

/** A refusal means that nothing was changed. */
export type StockChanged =
  | { outcome: 'changed' | 'replayed', change: StockChange }
  | { outcome: 'key-reused' | 'not-found' | 'out-of-stock' | 'stock-too-large' }
