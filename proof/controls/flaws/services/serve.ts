import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { buildApp } from '../../../../app.ts'
import { loadConfig } from '../../../../config.ts'

/** Starts the order service like its server.ts, but calls `spoil` on the app before it listens. */
export async function serve (spoil: (app: FastifyInstance) => void): Promise<void> {
  const config = loadConfig(process.env)
  const { database: { url = '' }, auth: { secret = '' }, logLevel: level, host, port } = config
  const app = await buildApp({ config, database: { url }, auth: { secret }, logger: pino({ level }) })
  spoil(app)
  await app.listen({ host, port })
}
