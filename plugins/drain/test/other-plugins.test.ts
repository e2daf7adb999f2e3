import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import { connect } from './connect.ts'

async function build (): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(drain, { exit: false, deadline: 3_000 })
  return app
}

t.test('the plugin calls then() of a returned thenable once, since a query builder runs its query on each call', async t => {
  const app = await build()
  let runs = 0
  app.get('/lazy', () => ({
    then (resolve: (value: unknown) => void) {
      runs++
      resolve({ id: 1 })
    }
  }))
  app.get('/schema', async () => ({ if: {}, then: { type: 'string' } }))
  app.get('/schema-at-once', () => ({ if: {}, then: { type: 'string' } }))
  t.same((await app.inject('/lazy')).json(), { id: 1 })
  t.equal(runs, 1)
  for (const path of ['/schema', '/schema-at-once']) t.same((await app.inject(path)).json(), { if: {}, then: { type: 'string' } })
  await app.close()
})

t.test('another plugin may override reply.hijack() and reply.then()', async t => {
  const app = await build()
  app.addHook('onRequest', async (_request, reply) => {
    const { hijack, then } = reply
    reply.hijack = function () { return hijack.call(this) }
    reply.then = function (...args) { then.apply(this, args) }
  })
  app.get('/hijack', (_request, reply) => {
    reply.hijack()
    reply.raw.end('mine')
  })
  app.get('/reply', async (_request, reply) => {
    setImmediate(() => reply.send('sent'))
    return reply
  })
  t.equal((await app.inject('/hijack')).body, 'mine')
  t.equal((await app.inject('/reply')).body, 'sent')
  await app.close()
})

for (const hijacks of [false, true]) {
  t.test(`the stop waits for work that another plugin wraps round a handler${hijacks ? ', also after reply.hijack()' : ''}`, async t => {
    const app = await build()
    const steps: string[] = []
    app.addHook('onRoute', route => {
      const { handler } = route
      route.handler = async function (request, reply) {
        const result: unknown = await handler.call(this, request, reply)
        if (!hijacks) await sleep(200)
        steps.push('work done')
        return result
      }
    })
    app.addHook('onClose', async () => { steps.push('closed') })
    app.get('/', async (_request, reply) => {
      if (hijacks) reply.hijack()
      app.server.emit('begun')
      await sleep(200)
      if (hijacks) reply.raw.end()
      return {}
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const client = await connect(t, app.listeningOrigin)
    const begun = once(app.server, 'begun')
    client.get('/')
    await begun
    client.socket.destroy()
    const report = await app.drain.start('test')
    t.same(steps, ['work done', 'closed'])
    t.match(report, { exitCode: 0, requests: { abandoned: { count: 0 } } })
  })
}

t.test('a WebSocket server without a list of clients does not disturb the stop', async t => {
  const app = await build()
  app.decorate('websocketServer', {} as typeof app.websocketServer)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { exitCode, elapsed } = await app.drain.start('test')
  t.equal(exitCode, 0)
  t.ok(elapsed < 3_000)
})

t.test('a request is served while the handler of an earlier, answered request on the same connection still runs', async t => {
  const app = await build()
  app.get('/early', async (_request, reply) => {
    reply.send('early')
    await once(app.server, 'finish')
    return reply
  })
  app.get('/', async () => 'late')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect(t, app.listeningOrigin)
  client.get('/early')
  await client.receives('early')
  const closing = new Promise(resolve => { app.drain.on('closing', resolve) })
  const stopped = app.drain.start('test')
  await closing
  client.get('/')
  await client.ended
  t.same(client.responses, ['200 keep-alive', '200 close'])
  app.server.emit('finish')
  t.match(await stopped, { exitCode: 0, requests: { refused: { count: 0 } } })
})

t.test('a request pipelined behind a close is not abandoned at the deadline, because it never began', async t => {
  const app = Fastify()
  await app.register(drain, { exit: false, deadline: 1_000, lameDuck: { min: 500 } })
  app.get('/hang', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200)
    reply.raw.write('first')
  })
  app.get('/behind', async () => ({}))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const stopped = app.drain.start('test')
  const client = await connect(t, app.listeningOrigin)
  client.get('/hang')
  await client.receives('first')
  client.get('/behind')
  t.match((await stopped).requests, { abandoned: { count: 1, ids: ['req-1'] }, unstarted: { count: 1, ids: ['req-2'] } })
})
