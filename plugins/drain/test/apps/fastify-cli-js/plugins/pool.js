'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const fp = require('fastify-plugin')

// Like the pool of a database: a query takes a while, and fails once the pool is closed.
module.exports = fp(async function (fastify, opts) {
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
