import { createHash } from 'node:crypto'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify from 'fastify'
import { Prisma, PrismaClient } from '#prisma'
import { uuidv7 } from '../../../commit/uuidv7.ts'
import { orderSchema, type OrderRoute } from './order-schema.ts'

// An order as Prisma's documentation writes one: an interactive transaction of model calls.

const customer = 'guest'
/** For a connection and for the transaction: with the defaults, 2 s and 5 s, it answers many clients with P2028. */
const patienceMs = 60_000

const { DATABASE_URL = '', PORT, POOL } = process.env
const prisma = new PrismaClient({
  adapter: new PrismaPg({ connectionString: DATABASE_URL, max: Number(POOL) }),
  transactionOptions: { maxWait: patienceMs, timeout: patienceMs }
})
const app = Fastify()

app.post<OrderRoute>('/orders', { schema: orderSchema }, async (request, reply) => {
  const idempotencyKey = request.headers['idempotency-key']
  const { currency, items } = request.body
  const fingerprint = createHash('sha256').update(JSON.stringify(request.body)).digest()
  try {
    const order = await prisma.$transaction(async tx => {
      const lines: Prisma.OrderItemCreateManyOrderInput[] = []
      let total = 0n
      for (const [index, { sku, quantity }] of items.entries()) {
        const { unitPrice } = await tx.product.findUniqueOrThrow({ where: { sku, currency } })
        const { count } = await tx.product.updateMany({ where: { sku, stock: { gte: quantity } }, data: { stock: { decrement: quantity } } })
        if (count === 0) throw new OutOfStock(sku)
        lines.push({ position: index + 1, sku, quantity, unitPrice })
        total += unitPrice * BigInt(quantity)
      }
      const order = await tx.order.create({
        data: { id: uuidv7(Date.now()), customer, idempotencyKey, fingerprint, currency, total, createdAt: new Date(), items: { create: lines } },
        include: { items: true }
      })
      await tx.outbox.create({ data: { orderId: order.id, version: 1, type: 'placed' } })
      return order
    })
    return await reply.code(201).send(onTheWire(order))
  } catch (error) {
    if (error instanceof OutOfStock) return await reply.code(409).send({ message: error.message })
    if (!(error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002')) throw error
    const order = await prisma.order.findUniqueOrThrow({ where: { customer_idempotencyKey: { customer, idempotencyKey } }, include: { items: true } })
    if (!Buffer.from(order.fingerprint).equals(fingerprint)) return await reply.code(422).send({ message: 'The Idempotency-Key was used for another request.' })
    return await reply.code(201).send(onTheWire(order))
  }
})

await app.listen({ host: '127.0.0.1', port: Number(PORT) })

class OutOfStock extends Error {
  constructor (sku: string) {
    super(`There is not enough of ${sku}. Nothing was stored.`)
  }
}

function onTheWire ({ total, items, ...order }: Prisma.OrderGetPayload<{ include: { items: true } }>) {
  return { ...order, total: Number(total), items: items.map(({ sku, quantity, unitPrice }) => ({ sku, quantity, unitPrice: Number(unitPrice) })) }
}
