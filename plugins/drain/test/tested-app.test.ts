import { mock } from 'node:test'
import FakeTimers from '@sinonjs/fake-timers'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import drain from 'fastify-drain'
import t from 'tap'
import type { Test } from 'tap'

// Taken before any test mocks them.
const { setTimeout, clearTimeout } = globalThis
const now = performance.now.bind(performance)

/** ms. Without the plugin it takes 20. */
const soon = 500

/** An app as a project's own tests build it: in their process, which must not end. */
async function build (t: Test): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(drain, { exit: false, deadline: 5_000 })
  await app.register(websocket)
  app.get('/', async () => ({}))
  app.get('/echo', { websocket: true }, socket => {
    // If it stays open, its own timer of 30 s would hold this process.
    t.teardown(() => socket.terminate())
    socket.on('message', message => { socket.send(String(message)) })
  })
  app.get('/private', { websocket: true, preValidation: async (request, reply) => reply.code(401).send({}) }, () => {})
  app.get('/throwing', { websocket: true, preHandler: async () => { throw new Error('expected') } }, () => {})
  return app
}

async function closesSoon (t: Test, app: FastifyInstance): Promise<void> {
  const start = now()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise(resolve => { timer = setTimeout(resolve, soon, 'late') })
  t.not(await Promise.race([app.close(), late]), 'late', `closed in ${Math.round(now() - start)} ms`)
  clearTimeout(timer)
}

t.test('an app with an injected WebSocket closes without delay', async t => {
  const clients = {
    'that was left open': () => {},
    'that its client has closed': async socket => {
      const closed = new Promise(resolve => socket.on('close', resolve))
      socket.close()
      await closed
    },
    'that its client is closing': socket => { socket.close() },
    'that its client has terminated': socket => { socket.terminate() }
  } satisfies Record<string, (socket: Awaited<ReturnType<FastifyInstance['injectWS']>>) => unknown>
  for (const [how, end] of Object.entries(clients)) {
    t.test(how, async t => {
      const app = await build(t)
      await app.ready()
      const socket = await app.injectWS('/echo')
      const answer = new Promise(resolve => socket.on('message', message => resolve(String(message))))
      socket.send('hello')
      t.equal(await answer, 'hello')
      await end(socket)
      await closesSoon(t, app)
      t.match(app.drain.report(), { exitCode: 0, requests: { inFlight: 0 } })
    })
  }

  for (const [how, path, status] of [['that a hook has refused', '/private', 401], ['that no route takes', '/nowhere', 404], ['whose hook has thrown', '/throwing', 500]] as const) {
    t.test(how, async t => {
      const app = await build(t)
      await app.ready()
      await t.rejects(app.injectWS(path), { message: new RegExp(String(status)) })
      await closesSoon(t, app)
      t.match(app.drain.report(), { exitCode: 0, requests: { inFlight: 0 } })
    })
  }
})

t.test('many injected WebSockets leave nothing in flight', async t => {
  const app = await build(t)
  await app.ready()
  for (let i = 0; i < 20; i++) {
    const socket = await app.injectWS('/echo')
    socket.terminate()
    await app.injectWS('/private').catch(() => {})
  }
  await closesSoon(t, app)
  t.equal(app.drain.report().requests.inFlight, 0)
})

const sets = [
  ['setTimeout'],
  ['setImmediate'],
  ['setTimeout', 'setInterval', 'setImmediate'],
  ['Date'],
  ['performance'],
  ['hrtime', 'Date', 'performance']
] as const

for (const listening of [false, true]) {
  const what = listening ? 'an app that listens' : 'an app that is only injected'

  for (const toFake of sets) {
    t.test(`${what} closes with ${toFake.join(', ')} of @sinonjs/fake-timers`, async t => {
      const app = await built(t)
      const clock = FakeTimers.install({ toFake: [...toFake] })
      t.teardown(() => clock.uninstall())
      await closesSoon(t, app)
      clock.uninstall()
    })
  }

  t.test(`${what} closes with the mocked timers of node:test`, async t => {
    const app = await built(t)
    mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] })
    t.teardown(() => mock.timers.reset())
    await closesSoon(t, app)
    mock.timers.reset()
  })

  t.test(`${what} closes with a mocked performance.now()`, async t => {
    const app = await built(t)
    const performanceNow = mock.method(performance, 'now', () => 42)
    t.teardown(() => performanceNow.mock.restore())
    await closesSoon(t, app)
    performanceNow.mock.restore()
  })

  async function built (t: Test): Promise<FastifyInstance> {
    const app = await build(t)
    if (listening) {
      const url = await app.listen({ port: 0, host: '127.0.0.1' })
      t.equal((await fetch(url, { headers: { connection: 'close' } })).status, 200)
    } else {
      t.equal((await app.inject('/')).statusCode, 200)
    }
    return app
  }
}
