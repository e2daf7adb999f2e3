// One service, stopped by the package that its argument names. Plain JavaScript, to run on every Node that the packages support.
import dns from 'node:dns'
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import replyFrom from '@fastify/reply-from'
import underPressure from '@fastify/under-pressure'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { WebSocketServer } from 'ws'
import { addRoutes } from './routes.js'

const options = JSON.parse(process.argv[2])
const { default: stopGracefully, create = (createApp, settings, fastify) => createApp(fastify, settings) } = await import(`../peers/${options.subject}.js`)

/** The pool that a stop must not close under a transaction. */
class Pool {
  open = true

  async transaction (name, ms) {
    if (!options.quiet) say(`begun ${name}`)
    await sleep(ms)
    if (!options.quiet) say(`${this.open ? 'committed' : 'lost'} ${name}`)
  }

  close () {
    this.open = false
    say('pool closed')
  }
}

/** Writes synchronously to the log, so that the exit loses nothing and the sequence is true. */
function say (msg) {
  writeSync(1, `${JSON.stringify({ level: 30, msg })}\n`)
}

/**
 * Returned in an object, because an app that is awaited boots.
 *
 * @param fastify makes the app: a recipe may wrap it
 */
async function createApp (fastify, settings) {
  const app = fastify(settings)
  const streams = new Set()
  const endStreams = () => { for (const stream of streams) stream.push(null) }
  const resources = []
  // As Fastify would close it, for peers that do not call app.close().
  function closes (instance, resource) {
    instance.addHook('onClose', resource)
    resources.push(resource)
  }
  const { ready = () => true, track = (label, promise) => promise, listening: nowListening = () => {} } = await stopGracefully(app, {
    deadline: options.deadline,
    lameDuck: options.lameDuck,
    closing: options.preClose ? () => {} : endStreams,
    closeResources: () => Promise.all(resources.map((close) => close()))
  })
  let listening = false
  app.addHook('onListen', async () => {
    listening = true
    nowListening()
  })
  if (options.preClose) {
    app.addHook('preClose', async () => {
      say('preClose')
      endStreams()
    })
  }

  const pool = new Pool()
  closes(app, async () => pool.close())
  if (options.stuckHook) {
    closes(app, async function stuckPool () {
      // Keeps the loop alive, like the connection of a pool.
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
  if (options.upstream) await app.register(replyFrom, { base: options.upstream })
  addRoutes(app, { say, pool, ready, track, streams, websocket: options.websocket, upstream: options.upstream })
  return { app }
}

async function build () {
  const { app } = await create(createApp, {
    logger: { level: options.quiet ? 'warn' : 'info' },
    requestIdHeader: 'x-request-id',
    ...options.http2 ? { http2: true } : {},
    ...options.tls ? { https: options.tls } : {}
  }, Fastify)
  Object.assign(commands, {
    close: () => app.close().then(() => say('closed')),
    inject: () => app.inject('/async?name=injected&ms=1500').then(({ statusCode }) => say(`injected ${statusCode}`))
  })
  await app.listen({ port: 0, host: options.host })
  if (options.lateWebSocket) new WebSocketServer({ server: app.server }).on('connection', (socket) => socket.send('hello'))
  // The main listener comes first.
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
// The channel must not keep a stopped service alive.
process.channel?.unref()

if (options.host === 'localhost') {
  // Two addresses, and so two listeners, as on most systems, wherever this runs.
  const addresses = [{ address: '127.0.0.1', family: 4 }, { address: '127.0.0.2', family: 4 }]
  const { lookup } = dns
  dns.lookup = (host, lookupOptions, callback) => {
    if (host === 'localhost' && lookupOptions.all) process.nextTick(callback, null, addresses)
    else lookup(host, lookupOptions, callback)
  }
}

if (options.reopensLogs) process.on('SIGHUP', () => say('log files reopened'))
for (let app = 0; app < options.apps; app++) await build()
say('started')
