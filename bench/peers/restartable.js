// "Usage" of its README, which has no deadline and no process.exit(): the process ends when nothing is left.
import { restartable } from '@fastify/restartable'

export default async function (app, { closing }) {
  app.addHook('preClose', async () => closing())
  return {}
}

/** The package makes the app itself, so that it can make another one later; it uses the same Fastify as all the others. */
export async function create (createApp, settings, Fastify) {
  const app = await restartable(async (fastify, settings) => (await createApp(fastify, settings)).app, settings, Fastify)
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => { app.close() })
  }
  return { app }
}
