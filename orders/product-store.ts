import { Prisma, type PrismaClient } from '#prisma'
import type { DatabaseFunctions } from '../prisma/database-functions.ts'
import { stockMax, type Product, type ProductChange, type Put, type StockChange, type StockChanged, type VersionCondition } from './product.ts'

/** The SQL of the catalogue, with its stock. Each write is one statement, as in store.ts. */
export class ProductStore {
  readonly #prisma: Pick<PrismaClient, '$queryRaw' | 'product' | 'stockChange'>
  readonly #functions: DatabaseFunctions

  constructor (prisma: Pick<PrismaClient, '$queryRaw' | 'product' | 'stockChange'>, functions: DatabaseFunctions) {
    this.#prisma = prisma
    this.#functions = functions
  }

  async find (sku: string): Promise<Product | null> {
    const row = await this.#prisma.product.findUnique({ where: { sku } })
    return row === null ? null : productOf(row)
  }

  /** Sorted by SKU. `after` is the last SKU of the page before. */
  async list (page: { withdrawn: boolean, after?: string | undefined, limit: number }): Promise<Product[]> {
    const rows = await this.#prisma.product.findMany({
      where: { withdrawn: page.withdrawn, ...page.after !== undefined && { sku: { gt: page.after } } },
      orderBy: { sku: 'asc' },
      take: page.limit
    })
    return rows.map(productOf)
  }

  /** Creates the product, if a stock is given; or changes the members given. */
  async put ({ sku, name, unitPrice, currency, stock, withdrawn }: ProductChange, { match, noneMatch }: VersionCondition = {}): Promise<Put> {
    const expected = Array.isArray(match) ? match : null
    const unexpected = Array.isArray(noneMatch) ? noneMatch : null
    const { outcome, product } = await this.#functions.call<{ outcome: Put['outcome'], product: StoredProduct | null }>('put_product', Prisma.sql`
      ${sku}::text, ${name ?? null}::text, ${unitPrice ?? null}::bigint, ${currency ?? null}::text, ${stock ?? null}::bigint, ${withdrawn ?? null}::boolean,
      ${match !== undefined}, ${expected}::bigint[], ${noneMatch === 'any'}, ${unexpected}::bigint[]`)
    return {
      outcome,
      product: product === null
        ? null
        : { ...product, unitPrice: BigInt(product.unitPrice), stock: BigInt(product.stock), version: BigInt(product.version) }
    } as Put
  }

  /** Adds to a stock, or takes from it, once for each key of `changedBy`. */
  async changeStock ({ id, changedBy, idempotencyKey, sku, delta, reason, createdAt }: Omit<StockChange, 'stock'> & { idempotencyKey: string }): Promise<StockChanged> {
    const { outcome, change } = await this.#functions.call<{ outcome: StockChanged['outcome'], change: StoredChange | null }>('change_stock', Prisma.sql`
      ${id}::uuid, ${changedBy}, ${idempotencyKey}, ${sku}, ${delta}::bigint, ${reason}, ${stockMax}::bigint, ${createdAt.toISOString()}::timestamptz`)
    return {
      outcome,
      ...change !== null && { change: { ...change, delta: BigInt(change.delta), stock: BigInt(change.stock), createdAt: new Date(change.createdAt) } }
    } as StockChanged
  }

  /** Newest first. `before` is the last id of the page before. */
  async changes (page: { sku: string, before?: string | undefined, limit: number }): Promise<StockChange[]> {
    return await this.#prisma.stockChange.findMany({
      where: { sku: page.sku, ...page.before !== undefined && { id: { lt: page.before } } },
      orderBy: { id: 'desc' },
      take: page.limit,
      omit: { idempotencyKey: true, replays: true }
    })
  }

  /** The currencies of the first ten thousand products. */
  async currencies (): Promise<string[]> {
    const rows = await this.#prisma.$queryRaw<Array<{ currency: string }>>`SELECT DISTINCT currency FROM (SELECT currency FROM products LIMIT 10000) priced`
    return rows.map(({ currency }) => currency)
  }
}

/** A product in JSON. */
type StoredProduct = { [Name in keyof Product]: Product[Name] extends bigint ? number : Product[Name] }

type StoredChange = Omit<StockChange, 'delta' | 'stock' | 'createdAt'> & { delta: number, stock: number, createdAt: string }

/** The stock of a withdrawn product is in a column of its own, so that no order takes it. */
function productOf ({ withdrawnStock, stock, ...product }: Product & { withdrawnStock: bigint }): Product {
  return { ...product, stock: stock + withdrawnStock }
}
