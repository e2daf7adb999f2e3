import { type FastifyPluginAsync } from 'fastify'

const orders: FastifyPluginAsync = async (fastify, opts): Promise<void> => {
  fastify.post('/', async function (request, reply) {
    return fastify.pool.query()
  })
}

export default orders
