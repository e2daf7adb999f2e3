// One service, stopped by the package that it is told to use. Plain JavaScript: it runs on every Node that the packages do.
import dns from 'node:dns'
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Readable } from 'node:stream'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'

const options = JSON.parse(process.argv[2])
const { default: stopGracefully } = await import(`../peers/${options.subject}.js`)

/** What a stop must not take from under a transaction. */
class Pool {
  open = true

  async transaction (name, ms) {
    say(`begun ${name}`)
    await sleep(ms)
    say(`${this.open ? 'committed' : 'lost'} ${name}`)
  }

  close () {
    this.open = false
    say('pool closed')
  }
}

/** Synchronously and in the log, so that nothing is lost at the exit and the order is true. */
function say (msg) {
  writeSync(1, `${JSON.stringify({ level: 30, msg })}\n`)
}

async function build () {
  const app = Fastify({
    logger: true,
    requestIdHeader: 'x-request-id',
    ...options.http2 ? { http2: true } : {},
    ...options.tls ? { https: options.tls } : {}
  })
  const streams = new Set()
  const resources = []
  // As Fastify would, and for who does it without app.close().
  function closes (instance, resource) {
    instance.addHook('onClose', resource)
    resources.push(resource)
  }
  let listening = false
  const { ready = () => true, track = (label, promise) => promise, listening: nowListening = () => {} } = await stopGracefully(app, {
    deadline: options.deadline,
    lameDuck: options.lameDuck,
    closing: () => { for (const stream of streams) stream.push(null) },
    closeResources: () => Promise.all(resources.map((close) => close()))
  })

  const pool = new Pool()
  closes(app, async () => pool.close())
  if (options.stuckHook) {
    closes(app, async function stuckPool () {
      // Something that keeps the loop alive, as the connection of a pool would.
      setInterval(() => {}, 1_000)
      await new Promise(() => {})
    })
  }
  if (options.slowBoot) {
    app.register(async (app) => {
      closes(app, async () => say('resource closed'))
      say('resource opened')
      await sleep(1_000)
    })
  }
  if (options.websocket) await app.register(websocket)
  if (options.pressure) await app.register(underPressure, { healthCheck: async () => !listening || ready(), healthCheckInterval: 50 })

  app.get('/', async () => ({}))
  app.get('/readyz', { config: { drain: 'serve' } }, async (request, reply) => reply.code(ready() ? 200 : 503).send({}))
  app.get('/hang', () => new Promise(() => { say('begun hang') }))
  app.get('/large', async (request, reply) => {
    say('begun large')
    return reply.send(Buffer.alloc(Number(request.query.bytes)))
  })
  app.post('/upload', async ({ body }) => body)
  app.get('/events', async (request, reply) => {
    const stream = new Readable({ read () {} })
    stream.push('data: first\n\n')
    streams.add(stream)
    stream.once('close', () => streams.delete(stream))
    return reply.type('text/event-stream').send(stream)
  })
  app.get('/background', async () => {
    track('mail', pool.transaction('mail', 1_500))
    return {}
  })
  if (options.websocket) app.get('/websocket', { websocket: true }, (socket) => socket.send('hello'))

  // A transaction in every form that a handler can have.
  const work = ({ query }) => pool.transaction(query.name, Number(query.ms))
  app.get('/async', async (request) => {
    await work(request)
    return {}
  })
  app.get('/callback', (request, reply) => { work(request).then(() => reply.send({})) })
  app.get('/return-reply', (request, reply) => {
    work(request).then(() => reply.send({}))
    return reply
  })
  app.get('/stream', (request, reply) => { work(request).then(() => reply.send(Readable.from(['a', 'b']))) })
  app.get('/hijack', async (request, reply) => {
    reply.hijack()
    await work(request)
    reply.raw.end('{}')
  })
  app.get('/thrown', async () => { throw new Error('expected') })
  app.setErrorHandler(async (error, request, reply) => {
    if (request.query.name === undefined) return reply.send(error)
    await work(request)
    return reply.code(500).send({})
  })
  app.setNotFoundHandler(async (request, reply) => {
    await work(request)
    return reply.code(404).send({})
  })

  Object.assign(commands, {
    close: () => app.close().then(() => say('closed')),
    inject: () => app.inject('/async?name=injected&ms=1500').then(({ statusCode }) => say(`injected ${statusCode}`))
  })
  await app.listen({ port: 0, host: options.host })
  listening = true
  nowListening()
  // The main listener first.
  for (const { address, port } of app.addresses().reverse()) say(`listening at ${options.tls ? 'https' : 'http'}://${address}:${port}`)
}

const commands = {
  block: () => {
    say('blocking')
    const until = Date.now() + 1_500
    while (Date.now() < until);
    say('unblocked')
  },
  crash: () => setImmediate(() => { throw new Error('crashed on purpose') }),
  reject: () => { Promise.reject(new Error('rejected on purpose')) }
}
process.on('message', (command) => commands[command]())
// The channel must not be what keeps a stopped service alive.
process.channel?.unref()

if (options.host === 'localhost') {
  // Wherever this runs: two addresses, and so two listeners, as on most systems.
  const addresses = [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }]
  const { lookup } = dns
  dns.lookup = (host, lookupOptions, callback) => {
    if (host === 'localhost' && lookupOptions.all) process.nextTick(callback, null, addresses)
    else lookup(host, lookupOptions, callback)
  }
}

for (let app = 0; app < options.apps; app++) await build()
say('started')
