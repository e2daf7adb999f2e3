// "Register plugin" of its README; resources are released in onClose hooks, as it says.
import gracefulShutdown from 'fastify-graceful-shutdown'

export default async function (app, { deadline, closing }) {
  app.addHook('preClose', async () => closing())
  await app.register(gracefulShutdown, { timeout: deadline })
  return {}
}
