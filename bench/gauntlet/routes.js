import { Readable } from 'node:stream'

/**
 * What the service of the gauntlet serves, and says.
 *
 * @param streams those that are ended when the service stops
 */
export function addRoutes (app, { say, pool, ready, track, streams, websocket }) {
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
  app.get('/background', async () => {
    track('mail', pool.transaction('mail', 1_500))
    return {}
  })
  if (websocket) app.get('/websocket', { websocket: true }, (socket) => socket.send('hello'))
  app.post('/upload', async ({ body }) => body)
  addWork(app, pool)
}

/** A transaction in every form that a handler can have. */
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
}
