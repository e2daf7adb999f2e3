// "Example with Fastify" of its README.
import closeWithGrace from 'close-with-grace'

export default async function (app, { deadline, closing }) {
  app.addHook('preClose', async () => closing())
  closeWithGrace({ delay: deadline, logger: app.log }, async ({ signal, err }) => {
    if (err) app.log.error({ err }, 'server closing with error')
    else app.log.info(`${signal} received, server closing`)
    await app.close()
  })
  return {}
}
