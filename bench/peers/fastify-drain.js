import drain from 'fastify-drain'

export default async function (app, { deadline, lameDuck, closing }) {
  await app.register(drain, { deadline, lameDuck })
  app.drain.on('closing', closing)
  return {
    ready: () => app.drain.state === 'serving',
    track: (label, promise) => app.drain.track(label, promise),
    pressure: {
      pressureHandler: (request, reply, type, value) => {
        if (app.drain.state === 'serving') reply.code(503).send({ type, value })
      }
    }
  }
}
