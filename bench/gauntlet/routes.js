import { pbkdf2 } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'

const derive = promisify(pbkdf2)
/** Takes many seconds on any machine. */
const ITERATIONS = 10_000_000
/** libuv's default. */
const THREADS = 4

/**
 * The routes of the gauntlet's service.
 *
 * @param streams the streams that are ended when the service stops
 */
export function addRoutes (app, { say, pool, ready, track, streams, websocket, upstream }) {
  app.get('/', async () => ({}))
  app.get('/readyz', { config: { drain: 'serve' } }, async (request, reply) => reply.code(ready() ? 200 : 503).send({}))
  app.get('/hang', () => new Promise(() => { say('begun hang') }))
  app.get('/large', async (request, reply) => {
    say('begun large')
    return reply.send(Buffer.alloc(Number(request.query.bytes)))
  })
  app.get('/events', async (request, reply) => {
    const stream = new Readable({ read () {} })
    stream.push('data: first\n\n')
    streams.add(stream)
    stream.once('close', () => streams.delete(stream))
    return reply.type('text/event-stream').send(stream)
  })
  // Its first byte comes `ms` after the reply was sent.
  app.get('/late-stream', async (request, reply) => {
    await turn()
    const stream = new PassThrough()
    const timer = setTimeout(() => stream.end('late'), Number(request.query.ms))
    stream.once('close', () => clearTimeout(timer))
    return reply.send(stream)
  })
  app.get('/background', async () => {
    track('mail', pool.transaction('mail', 1_500))
    return {}
  })
  app.get('/thread-pool', async () => {
    say('begun thread-pool')
    await Promise.all(Array.from({ length: THREADS }, () => derive('', '', ITERATIONS, 64, 'sha512')))
    return {}
  })
  if (websocket) app.get('/websocket', { websocket: true }, (socket) => socket.send('hello'))
  if (upstream) app.get('/proxied', (request, reply) => { reply.from('/') })
  addUploads(app, say)
  addWork(app, pool)
}

function addUploads (app, say) {
  app.post('/upload', async ({ body }) => ({ length: JSON.stringify(body).length }))
  app.addContentTypeParser('application/octet-stream', (request, payload, done) => done(null, payload))
  app.post('/upload-stream', async ({ body }) => {
    say('begun upload')
    let bytes = 0
    for await (const { length } of body) bytes += length
    return { bytes }
  })
}

/** A transaction in every form that a handler can have, and in hooks. */
function addWork (app, pool) {
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
  app.get('/slow-body', async (request, reply) => {
    async function * body () {
      yield 'a'
      await work(request)
      yield 'b'
    }
    return reply.send(Readable.from(body()))
  })
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

  // As middleware does it.
  const onRequest = (request, reply, done) => { work(request).then(() => done(), done) }
  app.get('/on-request', { onRequest }, async () => ({}))
  app.post('/pre-handler', { preHandler: work }, async () => ({}))
  const onSend = async (request, reply, payload) => {
    await work(request)
    return payload
  }
  app.get('/on-send', { onSend }, async () => ({}))
  app.get('/on-response', { onResponse: work }, async () => ({}))
}
