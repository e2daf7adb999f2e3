import type pg from 'pg'

export interface Asked {
  readonly currency: string
  readonly items: ReadonlyArray<{ readonly sku: string, readonly quantity: number }>
  readonly reference?: string
}

/** Unit prices by sku, in minor units. */
export type Catalogue = ReadonlyMap<string, number>

export async function readCatalogue (database: Pick<pg.Pool, 'query'> | pg.PoolClient): Promise<Catalogue> {
  const { rows } = await database.query<{ sku: string, price: number }>('SELECT sku, unit_price::float8 AS price FROM products')
  return new Map(rows.map(({ sku, price }) => [sku, price]))
}

/** The order as answered and stored, without an id. */
export function priced (catalogue: Catalogue, { currency, items, reference = null }: Omit<Asked, 'reference'> & { readonly reference?: string | null }) {
  const lines = items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: catalogue.get(sku) ?? 0 }))
  const total = lines.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
  return { status: 'placed', version: 1, currency, items: lines, total, reference }
}
