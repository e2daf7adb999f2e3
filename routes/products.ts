import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { uuidv7 } from '../commit/uuidv7.ts'
import { notStarted, outcomeUnknown, Problem } from '../plugins/errors.ts'
import { stockMax, type Product, type Put, type StockChange, type StockChanged } from '../orders/product.ts'
import { cursorOfId, idOfCursor } from './cursors.ts'
import { idempotencyKeyOf, versionsOf } from './headers.ts'
import { answer, Currency, idempotencyKey, ifMatch, ifNoneMatch, Money, notModified, nullableText, problemResponses, Sku, storableText, Time } from './schemas.ts'
import type { Settled } from '../commit/settle.ts'

const fields = {
  name: storableText({ minLength: 1, maxLength: 200 }),
  unitPrice: Money,
  currency: Currency
}
const withdrawn = Type.Boolean({ description: 'Whether it is off sale, until a PUT sets it to false' })

const ProductSchema = Type.Object({
  sku: Sku,
  ...fields,
  stock: Type.Integer({ description: 'The stock for sale; of a withdrawn product, the stock that it would have for sale' }),
  withdrawn,
  version: Type.Integer({ description: 'Each change adds 1, also a sale. Also the ETag' })
})
const ProductRequest = Type.Object({
  ...fields,
  stock: Type.Optional(Type.Integer({ minimum: 0, maximum: stockMax, description: 'Required for a new product. For an existing one it takes If-Match.' })),
  withdrawn: Type.Optional(withdrawn)
}, { additionalProperties: false })

const changeFields = {
  delta: Type.Integer({ minimum: -stockMax, maximum: stockMax, description: 'The amount to add; negative to take away' }),
  reason: storableText({ minLength: 1, maxLength: 255, description: 'Why: a delivery, breakage, a count' })
}
const StockChangeSchema = Type.Object({
  id: Type.String({ format: 'uuid', description: 'UUIDv7: sorts by time' }),
  sku: Sku,
  ...changeFields,
  stock: Type.Integer({ description: 'The stock after the change' }),
  changedBy: Type.String({ description: 'The `sub` of the token' }),
  createdAt: Time
})

const params = Type.Object({ sku: Sku })
const next = nullableText({ description: 'The cursor of the next page; null on the last' })

/** The catalogue, with its stock. */
const products: FastifyPluginAsyncTypebox = async app => {
  const { settle } = app.orders

  app.get('/products', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'listProducts',
      tags: ['products'],
      summary: 'The catalogue, by SKU',
      querystring: Type.Object({
        withdrawn: Type.Boolean({ default: false, description: 'true: the withdrawn products instead of those on sale' }),
        limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }),
        cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{2,1024}$', description: 'The `next` of the page before' }))
      }, { additionalProperties: false }),
      response: { 200: answer(Type.Object({ products: Type.Array(ProductSchema), next }), 'A page'), ...problemResponses() }
    }
  }, async request => {
    const { withdrawn, limit, cursor } = request.query
    // One more than the limit tells whether there is a next page.
    const found = await app.products.list({ withdrawn, after: cursor === undefined ? undefined : skuOfCursor(cursor), limit: limit + 1 })
    const page = found.slice(0, limit)
    const last = page.at(-1)
    return { products: page.map(onTheWire), next: found.length > limit && last !== undefined ? Buffer.from(last.sku).toString('base64url') : null }
  })

  app.get('/products/:sku', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'getProduct',
      tags: ['products'],
      summary: 'A product, withdrawn or not',
      params,
      headers: Type.Object(ifNoneMatch),
      response: { 200: answer(ProductSchema, 'The product', 'etag'), 304: notModified, ...problemResponses('not-found', 'version-mismatch') }
    }
  }, async (request, reply) => {
    const product = await app.products.find(request.params.sku)
    if (product === null) throw noSuchProduct()
    reply.header('etag', etagOf(product))
    return onTheWire(product)
  })

  app.put('/products/:sku', {
    onRequest: app.allow('staff'),
    config: { preconditions: ['if-match', 'if-none-match'] },
    schema: {
      operationId: 'putProduct',
      tags: ['products'],
      summary: 'Create a product with its stock, or change it',
      description: 'Without a stock in the body the stock stays as it is, also if orders change it meanwhile. With one, an existing product takes If-Match. To change a stock by an amount, POST to its stock.',
      params,
      headers: Type.Object({ ...ifMatch, ...ifNoneMatch }),
      body: ProductRequest,
      response: {
        200: answer(ProductSchema, 'Changed', 'etag'),
        201: answer(ProductSchema, 'Created', 'etag'),
        ...problemResponses('not-found', 'version-mismatch', 'precondition-required', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { unitPrice, stock, ...rest } = request.body
    const change = { ...rest, sku: request.params.sku, unitPrice: BigInt(unitPrice), stock: stock === undefined ? undefined : BigInt(stock) }
    const match = versionsOf(request.headers, 'if-match')
    const result = await settle(() => app.products.put(change, { match, noneMatch: versionsOf(request.headers, 'if-none-match') }), {
      // `*` also matches the version that the first attempt made, so a retry would put back what was sold in between.
      repeatable: stock === undefined || match !== 'any',
      proves: ({ outcome }) => outcome === 'created' || outcome === 'updated'
    })
    const product = productOf(result)
    reply.code(result.outcome === 'created' ? 201 : 200).header('etag', etagOf(product))
    return onTheWire(product)
  })

  app.delete('/products/:sku', {
    onRequest: app.allow('staff'),
    config: { preconditions: ['if-match'] },
    schema: {
      operationId: 'withdrawProduct',
      tags: ['products'],
      summary: 'Withdraw a product',
      description: 'No new order can have it. Cancelling an order does not bring it back; a PUT with `withdrawn: false` does. Its orders and its stock stay.',
      params,
      headers: Type.Object(ifMatch),
      response: { 200: answer(ProductSchema, 'Withdrawn', 'etag'), ...problemResponses('not-found', 'version-mismatch', 'outcome-unknown') }
    }
  }, async (request, reply) => {
    const { sku } = request.params
    const match = versionsOf(request.headers, 'if-match')
    const product = productOf(await settle(() => app.products.put({ sku, withdrawn: true }, { match }), {
      repeatable: true,
      proves: ({ outcome }) => outcome === 'updated'
    }))
    reply.header('etag', etagOf(product))
    return onTheWire(product)
  })

  app.post('/products/:sku/stock', {
    onRequest: app.allow('staff'),
    schema: {
      operationId: 'changeStock',
      tags: ['products'],
      summary: 'Add to a stock, or take from it, exactly once',
      description: 'Sales meanwhile make no difference. The same key with the same body gives the same answer again, with Idempotent-Replayed: true.',
      params,
      headers: Type.Object(idempotencyKey),
      body: Type.Object(changeFields, { additionalProperties: false }),
      response: {
        201: answer(StockChangeSchema, 'Changed', 'idempotent-replayed'),
        ...problemResponses('idempotency-key-missing', 'not-found', 'out-of-stock', 'idempotency-key-reused', 'outcome-unknown')
      }
    }
  }, async (request, reply) => {
    const { delta, reason } = request.body
    if (delta === 0) throw new Problem('invalid-request', 'A delta of 0 changes nothing. Nothing was changed.')
    const createdAt = new Date()
    const change = {
      id: uuidv7(createdAt.getTime()),
      changedBy: request.customer,
      idempotencyKey: idempotencyKeyOf(request.headers),
      sku: request.params.sku,
      delta: BigInt(delta),
      reason,
      createdAt
    }
    const result = await settle(() => app.products.changeStock(change), {
      repeatable: true,
      // A lost statement may reach Postgres even after a later one was refused: only a row is proof.
      proves: ({ outcome }) => outcome === 'changed' || outcome === 'replayed' || outcome === 'key-reused'
    })
    const changed = stockChangeOf(result, change.sku)
    if (result.outcome === 'replayed') reply.header('idempotent-replayed', 'true')
    reply.code(201)
    return changeOnTheWire(changed)
  })

  app.get('/products/:sku/stock', {
    onRequest: app.allow('staff'),
    schema: {
      operationId: 'listStockChanges',
      tags: ['products'],
      summary: 'The changes of a stock by an amount, newest first',
      params,
      querystring: Type.Object({
        limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
        cursor: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{22}$', description: 'The `next` of the page before' }))
      }, { additionalProperties: false }),
      response: { 200: answer(Type.Object({ changes: Type.Array(StockChangeSchema), next }), 'A page'), ...problemResponses('not-found') }
    }
  }, async request => {
    const { sku } = request.params
    const { limit, cursor } = request.query
    const found = await app.products.changes({ sku, before: cursor === undefined ? undefined : idOfCursor(cursor), limit: limit + 1 })
    if (found.length === 0 && await app.products.find(sku) === null) throw noSuchProduct()
    const page = found.slice(0, limit)
    const last = page.at(-1)
    return { changes: page.map(changeOnTheWire), next: found.length > limit && last !== undefined ? cursorOfId(last.id) : null }
  })
}

export default products

function productOf (result: Settled<Put>): Product {
  switch (result.outcome) {
    case 'created':
    case 'updated': return result.product
    case 'not-found': throw new Problem('not-found', 'There is no such product. Nothing was changed. To create it, send its stock too.')
    case 'version-mismatch': {
      if (result.product === null) throw new Problem('version-mismatch', 'There is no such product, so If-Match cannot name its version. Nothing was changed.')
      throw new Problem('version-mismatch', `The product is at version ${result.product.version}, which the precondition rules out. Nothing was changed.`, { headers: { etag: etagOf(result.product) } })
    }
    case 'version-required': throw new Problem('precondition-required', 'The stock of an existing product takes If-Match with its ETag: without it, sales since you read it would be undone. Nothing was changed. To change the stock by an amount, POST to its stock.', { headers: { etag: etagOf(result.product) } })
    case 'not-started': throw notStarted('The database did not take the request.')
    case 'outcome-unknown': throw outcomeUnknown('Read the product before you send the request again.')
  }
}

function stockChangeOf (result: Settled<StockChanged>, sku: string): StockChange {
  switch (result.outcome) {
    case 'changed':
    case 'replayed': return result.change
    case 'key-reused': throw new Problem('idempotency-key-reused', 'This Idempotency-Key made another change. Nothing was changed. Use a new key for a new change.')
    case 'not-found': throw new Problem('not-found', 'There is no such product. Nothing was changed.')
    case 'out-of-stock': throw new Problem('out-of-stock', `The stock of ${sku} is smaller than the amount to take. Nothing was changed.`, { extra: { sku } })
    case 'stock-too-large': throw new Problem('invalid-request', `The stock would be above ${stockMax}. Nothing was changed.`)
    case 'not-started': throw notStarted('The database did not take the request.')
    case 'outcome-unknown': throw outcomeUnknown('Send the same request with the same Idempotency-Key: it settles the outcome and cannot change the stock twice.')
  }
}

function noSuchProduct (): Problem {
  return new Problem('not-found', 'There is no such product.')
}

function etagOf ({ version }: Product): string {
  return `"${version}"`
}

function onTheWire ({ unitPrice, stock, version, ...product }: Product) {
  return { ...product, unitPrice: Number(unitPrice), stock: Number(stock), version: Number(version) }
}

function changeOnTheWire ({ delta, stock, createdAt, ...change }: StockChange) {
  return { ...change, delta: Number(delta), stock: Number(stock), createdAt: createdAt.toISOString() }
}

function skuOfCursor (cursor: string): string {
  const sku = Buffer.from(cursor, 'base64url').toString()
  // This service never made it: it is no text, or text that Postgres refuses.
  if (/[\0\ufffd]/.test(sku)) throw new Problem('invalid-request', 'The cursor is not the `next` of a page.')
  return sku
}
