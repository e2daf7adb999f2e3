import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { notStarted, outcomeUnknown } from '../plugins/errors.ts'
import type { Product } from '../orders/store.ts'
import { Currency, Money, problemResponses, Sku, storableText } from './schemas.ts'

const ProductFields = {
  name: storableText({ minLength: 1, maxLength: 200 }),
  unitPrice: Money,
  currency: Currency,
  stock: Type.Integer({ minimum: 0, maximum: 2_000_000_000 })
}
const ProductSchema = Type.Object({ sku: Sku, ...ProductFields })

/** The catalogue, with its stock. */
const products: FastifyPluginAsyncTypebox = async app => {
  app.get('/products', {
    onRequest: app.allow('orders', 'staff'),
    schema: {
      tags: ['products'],
      summary: 'The catalogue',
      response: { 200: Type.Object({ products: Type.Array(ProductSchema) }), ...problemResponses(401, 403, 503) }
    }
  }, async () => ({ products: (await app.orders.store.products()).map(onTheWire) }))

  app.put('/products/:sku', {
    onRequest: app.allow('staff'),
    schema: {
      tags: ['products'],
      summary: 'Set a product and its stock',
      params: Type.Object({ sku: Sku }),
      body: Type.Object(ProductFields, { additionalProperties: false }),
      response: { 200: ProductSchema, 201: ProductSchema, ...problemResponses(400, 401, 403, 503) }
    }
  }, async (request, reply) => {
    const { unitPrice, stock, ...fields } = request.body
    const product = { ...fields, sku: request.params.sku, unitPrice: BigInt(unitPrice), stock: BigInt(stock) }
    // Not again after an unknown outcome: what was sold in between would be put back into stock.
    const result = await app.orders.settle(() => app.orders.store.putProduct(product), { repeatable: false, proves: () => true })
    if (result.outcome === 'not-started') throw notStarted('The database cannot be reached.')
    if (result.outcome === 'outcome-unknown') throw outcomeUnknown('Read the product before you send it again: what was sold since would be put back into stock.')
    reply.code(result.outcome === 'created' ? 201 : 200)
    return onTheWire(result.product)
  })
}

export default products

function onTheWire ({ unitPrice, stock, ...product }: Product) {
  return { ...product, unitPrice: Number(unitPrice), stock: Number(stock) }
}
