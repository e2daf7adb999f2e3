/** The body and the headers that the Node peers read. They do not check what the order service checks beyond that. */
export interface OrderRoute {
  Body: { readonly currency: string, readonly items: ReadonlyArray<{ readonly sku: string, readonly quantity: number }> }
  Headers: { 'idempotency-key': string }
}

const items = (properties: object) => ({
  type: 'array',
  minItems: 1,
  maxItems: 100,
  items: { type: 'object', required: Object.keys(properties), additionalProperties: false, properties }
})

const line = { sku: { type: 'string' }, quantity: { type: 'integer', minimum: 1 } }

/** What the Node peers' route checks and how it answers. It has an answer schema, with which Fastify serialises fastest. */
export const orderSchema = {
  headers: { type: 'object', required: ['idempotency-key'], properties: { 'idempotency-key': { type: 'string', minLength: 1, maxLength: 255 } } },
  body: {
    type: 'object',
    required: ['currency', 'items'],
    additionalProperties: false,
    properties: { currency: { type: 'string', pattern: '^[A-Z]{3}$' }, items: items(line) }
  },
  response: {
    201: {
      type: 'object',
      properties: {
        id: { type: 'string' },
        customer: { type: 'string' },
        status: { type: 'string' },
        currency: { type: 'string' },
        items: items({ ...line, unitPrice: { type: 'integer' } }),
        total: { type: 'integer' },
        reference: { type: ['string', 'null'] },
        version: { type: 'integer' },
        createdAt: { type: 'string' }
      }
    }
  }
}
