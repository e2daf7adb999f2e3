// "Usage with Fastify" of its README; by itself it neither handles signals nor ends the process.
import { createHttpTerminator } from 'http-terminator'

export default async function (app, { deadline, closing }) {
  const terminator = createHttpTerminator({ server: app.server, gracefulTerminationTimeout: deadline })
  async function stop () {
    closing()
    await terminator.terminate()
    await app.close()
  }
  let stopped
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      stopped ??= stop().then(() => process.exit(0), () => process.exit(1))
    })
  }
  return {}
}
