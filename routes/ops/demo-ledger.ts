import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { FastifyInstance } from 'fastify'

const Entry = Type.Object({
  id: Type.String({ description: 'The id of the payment or the refund' }),
  kind: Type.String({ description: 'charge or refund' }),
  charge: Type.Union([Type.String(), Type.Null()], { description: 'The charge that a refund gives back' }),
  order: Type.Union([Type.String(), Type.Null()]),
  amount: Type.Integer({ description: 'Minor units of the currency' }),
  currency: Type.String(),
  state: Type.String(),
  reason: Type.Union([Type.String(), Type.Null()]),
  calls: Type.Integer({ description: 'How often the service asked for it; it was done once' }),
  at: Type.String()
})

/** The ledger of the demo gateway, newest first. A service with another gateway has no such route. */
const demoLedger: FastifyPluginAsyncTypebox<{ service: FastifyInstance }> = async (ops, { service }) => {
  ops.get('/demo-ledger', {
    schema: {
      querystring: Type.Object({ limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }) }),
      response: { 200: Type.Object({ entries: Type.Array(Entry) }) }
    }
  }, async ({ query: { limit } }) => {
    const entries = await service.prisma.demoLedger.findMany({ orderBy: [{ at: 'desc' }, { id: 'desc' }], take: limit })
    return {
      entries: entries.map(({ chargeId: charge, orderId: order, customer: _, amount, at, ...entry }) =>
        ({ ...entry, charge, order, amount: Number(amount), at: at.toISOString() }))
    }
  })
}

export default demoLedger
