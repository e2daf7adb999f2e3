import { pino } from 'pino'
import { buildApp } from '../../app.ts'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'

// The service as a process that really exits, with a request that never ends.
const config = loadConfig(process.env)
const logger = pino({ level: 'silent' })
const app = await buildApp({ config, database: { url: config.database.url ?? '' }, auth: { secret: 'of the test' }, logger, drain: { deadline: 2_000 } })
app.get('/stuck', () => new Promise(() => {}))
const ops = await buildOps({ app, config, logger })
console.log(JSON.stringify({ app: await app.listen({ port: 0 }), ops: await ops.listen({ port: 0 }) }))
