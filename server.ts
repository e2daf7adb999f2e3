import { pino, type Logger } from 'pino'
import { buildApp } from './app.ts'
import { localSecret, signToken } from './auth/local-token.ts'
import type { Config, Judged } from './config.ts'
import { keepCopy, readLayers, type Layers } from './config/layers.ts'
import { RunningSettings } from './config/running.ts'
import { buildOps } from './ops.ts'
import { openAgent } from './plugins/agent-check.ts'
import { openDatabase } from './prisma/database.ts'
import { requireEnvironment } from './prisma/environment.ts'
import { migrate } from './prisma/migrate.ts'
import { seed } from './prisma/seed.ts'
import { requireWritable } from './prisma/writable.ts'
import { forPeople } from './user-error.ts'
import type { FastifyInstance } from 'fastify'

// The process: config → database → app → listen. From then on the drain plugin ends it.
try {
  await start()
} catch (error) {
  console.error(messageOf(error))
  process.exitCode = 1
}

async function start (): Promise<void> {
  const signals = holdSignals()
  const layers = await readLayers()
  const judged = layers.judge()
  const running = new RunningSettings(layers, judged)
  const config = running.now
  const logger = await createLogger(config)
  tellOfCentral(layers, judged, logger)
  const log = (line: string): void => logger.info(line)
  // Imported here, so that no module of the SDK is loaded if traces are off.
  const traces = config.tracing.export && (await import('./tracing/start.ts')).startTracing(config.tracing.export, logger)

  const database = await openDatabase({ url: config.database.url, log })
  let app: FastifyInstance | undefined
  try {
    if (config.database.migrateOnStart) await migrate({ url: database.url, environment: config.environment, log })
    await requireWritable(database.url)
    const named = await requireEnvironment({ url: database.url, environment: config.environment })
    if (named === undefined && config.environment !== undefined) logger.warn({ environment: config.environment }, 'The database belongs to no environment, so any service may start on it. Set ENVIRONMENT for the step that migrates too, or use npm run db:environment.')
    if (database.embeddedIn !== undefined) await seed({ url: database.url })

    const { secret = localSecret(), previousSecret, jwksUrl, ...expected } = config.auth
    app = await buildApp({
      config,
      running,
      database,
      auth: jwksUrl === undefined ? { secret, previousSecret, ...expected } : { jwksUrl, ...expected },
      logger,
      traces
    })
    signals.release()
    const ops = await buildOps({ app, config, logger })
    await app.ready()
    if (signals.received !== undefined) {
      // The service has served nothing yet, but everything is open, so the same stop closes it.
      await app.drain.start(signals.received)
      return
    }
    await app.listen({ host: config.host, port: config.port })
    if (config.agent.port !== undefined) {
      const agent = await openAgent({ app, config })
      logger.info(agent.address() ?? {}, 'listening for agent checks')
    }
    await ops.listen({ host: config.ops.host, port: config.ops.port })
    if (!config.production) greet({ app, ops, dataIn: database.embeddedIn, token: database.embeddedIn && signToken({ secret, sub: 'alice', ...expected }) })
  } catch (error) {
    if (app === undefined) await database.release()
    else await app.close()
    throw error
  } finally {
    signals.release()
  }
}

/** Keeps a signal until the drain plugin listens: ending at once could leave a half-made database behind. */
function holdSignals (): { readonly received: string | undefined, release: () => void } {
  let received: string | undefined
  const hold = (signal: string): void => { received ??= signal }
  process.on('SIGTERM', hold).on('SIGINT', hold)
  return {
    get received () {
      return received
    },
    release: () => process.off('SIGTERM', hold).off('SIGINT', hold)
  }
}

/** Logs the state of the central settings, and writes their copy. */
function tellOfCentral (layers: Layers, judged: Judged, logger: Logger): void {
  if (layers.central === undefined) return
  const { source, snapshot: { version, values }, copiedAt } = layers.central
  if (copiedAt !== undefined) {
    logger.warn({ source: source.name, version, copiedAt, ageS: Math.round((Date.now() - copiedAt.getTime()) / 1_000) }, 'The central source cannot be read. The service starts with the last good copy of its settings.')
  } else {
    logger.info({ source: source.name, version, settings: Object.keys(values).length }, 'The central settings were read.')
  }
  const strangers = layers.strangers(judged)
  if (strangers.length > 0) logger.warn({ source: source.name, names: strangers }, 'The central source has names that are no settings of this version. They have no effect.')
  const secrets = layers.shown(judged).filter(({ name, isSecret }) => isSecret && values[name] !== undefined).map(({ name }) => name)
  if (secrets.length > 0) logger.warn({ source: source.name, names: secrets }, 'The central source has secrets in plain text. Keep them in files or sealed, and name the files in the source.')
  void keepCopy(layers, judged).catch((error: unknown) => logger.warn({ err: error }, 'The copy of the central settings could not be written. The service runs on; it cannot start from that copy.'))
}

/** Synchronous, so that the last line is written before the process ends. A terminal gets a format for people, without the report's details. */
async function createLogger ({ logLevel: level, production }: Config): Promise<Logger> {
  if (production || !process.stdout.isTTY) return pino({ level })
  const pretty = await import('pino-pretty').catch(() => undefined)
  return pretty === undefined ? pino({ level }) : pino({ level }, pretty.default({ sync: true, ignore: 'pid,hostname,drain', translateTime: 'HH:MM:ss.l', singleLine: true }))
}

interface Greeting {
  app: FastifyInstance
  ops: FastifyInstance
  /** The folder of the embedded Postgres; undefined with DATABASE_URL. */
  dataIn: string | undefined
  /** Only with the embedded Postgres: the token is useless elsewhere. */
  token: string | undefined
}

/** Prints what a newcomer needs first, and the next command. */
function greet ({ app, ops, dataIn, token }: Greeting): void {
  const api = app.listeningOrigin
  console.log(`
Last Orders is open.

  API   ${api}  (browse it: ${api}/docs)
  ops   ${ops.listeningOrigin}  (open it to watch a drain)
  data  ${dataIn ?? 'DATABASE_URL'}
  stop  kill -TERM ${process.pid}  (pid ${process.pid}; or Ctrl-C)
`)
  if (token === undefined) {
    console.log('A token for trying it: npm run -s token -- --sub alice\n')
    return
  }
  const order = JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }] })
  console.log(`Place an order, twice if you like; it is stored once:

curl -i ${api}/orders -H 'Authorization: Bearer ${token}' -H 'Idempotency-Key: ${crypto.randomUUID()}' -H 'Content-Type: application/json' -d '${order}'
`)
}

function messageOf (error: unknown): unknown {
  if (error instanceof Error && 'code' in error && 'syscall' in error && error.syscall === 'listen') {
    const { address = '', port = '' } = error as { address?: string, port?: number }
    const why = error.code === 'EADDRINUSE' ? 'something else listens there' : error.code === 'EACCES' ? 'this account may not' : `${error.code}`
    return `The service cannot listen on ${address}:${port}: ${why}. It was not started, and nothing is left running.\nSet another PORT, OPS_PORT or AGENT_PORT (HOST, OPS_HOST, AGENT_HOST), or stop the other one.`
  }
  return forPeople(error)
}
