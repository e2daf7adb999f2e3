import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'

// Like the pool of a database: a query takes a while, and fails once the pool is closed.
export default fp(async (fastify) => {
  let open = true
  fastify.decorate('pool', {
    async query () {
      await sleep(200)
      if (!open) throw new Error('the pool is closed')
      return { rows: 1 }
    }
  })
  fastify.addHook('onClose', async () => { open = false })
})

declare module 'fastify' {
  export interface FastifyInstance {
    pool: { query(): Promise<{ rows: number }> }
  }
}
