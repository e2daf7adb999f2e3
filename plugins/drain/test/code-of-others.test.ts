import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import type { Test } from 'tap'
import { connect } from './connect.ts'

async function listening (t: Test, declare: (app: FastifyInstance) => void): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(drain, { exit: false, deadline: 3_000 })
  declare(app)
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

t.test('a stop does not wait for hooks that never call back', async t => {
  const parent = new EventEmitter()
  const app = await listening(t, app => {
    app.addHook('onRequestAbort', () => {})
    app.addHook('onResponse', () => {})
    app.get('/', async () => ({}))
    app.get('/held', async () => {
      parent.emit('begun')
      await once(parent, 'finish')
      return {}
    })
  })
  await (await fetch(`${app.listeningOrigin}/`)).text()
  const client = await connect(t, app.listeningOrigin)
  const begun = once(parent, 'begun')
  client.get('/held')
  await begun
  client.socket.destroy()
  await sleep(50)
  parent.emit('finish')
  const report = await app.drain.start('test')
  t.match(report, { exitCode: 0, requests: { abandoned: { count: 0 } } })
  t.ok(report.elapsed < 2_000, `in ${report.elapsed} ms`)
})

t.test('a hook that another plugin adds in onRoute ends before resources close', async t => {
  const said: string[] = []
  const app = await listening(t, app => {
    app.addHook('onRoute', route => {
      route.onResponse = async () => {
        await sleep(200)
        said.push('hook ended')
      }
    })
    app.addHook('onClose', async () => { said.push('resource closed') })
    app.get('/', async () => ({}))
  })
  await (await fetch(`${app.listeningOrigin}/`)).text()
  await app.drain.start('test')
  t.same(said, ['hook ended', 'resource closed'])
})

t.test('an error handler that runs for a half-received body ends before resources close', async t => {
  const said: string[] = []
  const parent = new EventEmitter()
  const app = await listening(t, app => {
    app.setErrorHandler(async () => {
      parent.emit('begun')
      // Longer than the stop waits for a request that has not begun.
      await sleep(1_500)
      said.push('error handler ended')
      return {}
    })
    app.addHook('onClose', async () => { said.push('resource closed') })
    app.post('/', async () => ({}))
  })
  const begun = once(parent, 'begun')
  const client = await connect(t, app.listeningOrigin)
  client.send('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{')
  await sleep(50)
  client.socket.destroy()
  await begun
  t.equal((await app.drain.start('test')).exitCode, 0)
  t.same(said, ['error handler ended', 'resource closed'])
})

t.test("a request has begun when the application's body parser reads it, even one that reads as Fastify's does", async t => {
  const parent = new EventEmitter()
  const app = await listening(t, app => {
    app.addContentTypeParser('text/lines', (request, payload, done) => {
      let size = 0
      function onData (chunk: Buffer): void {
        size += chunk.length
        parent.emit('stored')
      }
      function onEnd (): void {
        done(null, size)
      }
      payload.on('data', onData)
      payload.on('end', onEnd)
    })
    app.post('/', async request => ({ stored: request.body }))
  })
  const stored = once(parent, 'stored')
  const client = await connect(t, app.listeningOrigin)
  client.send('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/lines\r\nContent-Length: 4\r\n\r\na\n')
  await stored
  const stopped = app.drain.start('test')
  // Longer than a body that nothing reads yet may stand still.
  await sleep(1_500)
  client.send('b\n')
  await client.receives('{"stored":4}')
  t.match(await stopped, { exitCode: 0, requests: { completed: { count: 1 }, refused: { count: 0 } } })
})

t.test('hooks and handlers keep their names', async t => {
  const app = Fastify()
  await app.register(drain, { exit: false })
  let handler: string | undefined
  app.addHook('onRoute', route => { handler = route.handler.name })
  app.addHook('onRequest', async function authenticate () {})
  app.get('/', { preHandler: async function authorize () {}, exposeHeadRoute: false }, async function order () {})
  await app.ready()
  t.match(app.printRoutes({ includeHooks: true }), /authenticate\(\)[^]*authorize\(\)/)
  t.equal(handler, 'order')
  await app.close()
})

t.test('no handler runs for a request that is pipelined behind a reply with Connection: close', async t => {
  const served: unknown[] = []
  const app = Fastify()
  await app.register(drain, { exit: false, lameDuck: { min: 500, max: 500 }, deadline: 3_000 })
  app.get<{ Querystring: { number: string } }>('/', (request, reply) => {
    served.push(request.query.number)
    reply.send({})
  })
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const client = await connect(t, app.listeningOrigin)
  await new Promise(setImmediate)
  const stopped = app.drain.start('test')
  client.send([1, 2, 3, 4, 5].map(number => `GET /?number=${number} HTTP/1.1\r\nHost: localhost\r\n\r\n`).join(''))
  await client.ended
  t.same(client.responses, ['200 close'])
  t.same(served, ['1'])
  t.match((await stopped).requests, { completed: { count: 1 }, unstarted: { count: 4 } })
})

t.test("a route that calls another route's async handler gets a promise", async t => {
  const handlers = new Map<string, (request: unknown, reply: unknown) => Promise<unknown>>()
  const app = await listening(t, app => {
    app.addHook('onRoute', ({ url, handler }) => { handlers.set(url, handler as never) })
    app.get('/fails', async () => { throw new Error('expected') })
    app.get('/works', async () => ({ works: true }))
    app.get('/other', async (request, reply) => {
      const error = await handlers.get('/fails')?.(request, reply).catch(({ message }: Error) => message)
      return { error, result: await handlers.get('/works')?.(request, reply).finally(() => {}) }
    })
  })
  t.same(await (await fetch(`${app.listeningOrigin}/other`)).json(), { error: 'expected', result: { works: true } })
})
