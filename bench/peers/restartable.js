// "Usage" of its README, which ends neither by a deadline nor by process.exit(): the process goes when nothing is left.
import { restartable } from '@fastify/restartable'

export default async function (app, { closing }) {
  app.addHook('preClose', async () => closing())
  return {}
}

/** It makes the app itself, to make another one later; of the same Fastify as all the others. */
export async function create (createApp, settings, Fastify) {
  const app = await restartable(async (fastify, settings) => (await createApp(fastify, settings)).app, settings, Fastify)
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.once(signal, () => { app.close() })
  }
  return { app }
}
