import { realpathSync } from 'node:fs'
import { databaseUrlOf } from '../config.ts'
import { readLayers } from '../config/layers.ts'
import { withClient } from '../postgres/with-client.ts'
import { forPeople } from '../user-error.ts'
import { openDatabase } from './database.ts'

/** Prices in minor units of the currency. The last product is scarce, so that it sells out. */
const catalogue = [
  { sku: 'ale-pint', name: 'Pint of ale', unitPrice: 520, stock: 100_000 },
  { sku: 'stout-pint', name: 'Pint of stout', unitPrice: 560, stock: 100_000 },
  { sku: 'cider-half', name: 'Half a pint of cider', unitPrice: 290, stock: 100_000 },
  { sku: 'wine-glass', name: 'Glass of house red', unitPrice: 480, stock: 100_000 },
  { sku: 'lemonade', name: 'Cloudy lemonade', unitPrice: 310, stock: 100_000 },
  { sku: 'crisps', name: 'Bag of crisps', unitPrice: 150, stock: 100_000 },
  { sku: 'pie-mash', name: 'Pie and mash', unitPrice: 1_350, stock: 100_000 },
  { sku: 'malt-1989', name: 'Dram of the 1989 malt', unitPrice: 4_200, stock: 12 }
]

/**
 * Adds a small catalogue, in euro. Existing products stay as they are, with their stock.
 *
 * @returns the SKUs that it added
 */
export async function seed ({ url }: { url: string }): Promise<{ added: string[] }> {
  const { rows } = await withClient(url, async client => await client.query<{ sku: string }>(`
    INSERT INTO products (sku, name, unit_price, currency, stock)
    SELECT sku, name, "unitPrice", 'EUR', stock
    FROM jsonb_to_recordset($1) AS new (sku text, name text, "unitPrice" bigint, stock bigint)
    ON CONFLICT DO NOTHING RETURNING sku`, [JSON.stringify(catalogue)]))
  return { added: rows.map(row => row.sku) }
}

async function main (): Promise<void> {
  const log = (line: string) => console.log(line)
  const database = await openDatabase({ url: databaseUrlOf((await readLayers()).environment), log })
  try {
    const { added } = await seed({ url: database.url })
    log(added.length === 0 ? 'nothing to add: the catalogue exists' : `added ${added.join(', ')}`)
  } finally {
    await database.release()
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) {
  await main().catch((error: unknown) => {
    console.error('The catalogue was not added. Is the database migrated (`npm run db:migrate`)?', forPeople(error))
    process.exitCode = 1
  })
}
