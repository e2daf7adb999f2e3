import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { Config } from './config.ts'
import { TrustedProxies } from './plugins/client-address.ts'
import clientErrors from './plugins/client-errors.ts'
import { holdRoom } from './plugins/connections.ts'
import errors from './plugins/errors.ts'
import jsonBodies from './plugins/json-bodies.ts'
import pipelining from './plugins/pipelining.ts'
import securityHeaders from './plugins/security-headers.ts'
import { serverOptions } from './plugins/server-options.ts'
import slowReaders from './plugins/slow-readers.ts'
import strictHeads from './plugins/strict-heads.ts'
import { strictBodies } from './plugins/strict-bodies.ts'
import { operatorsOf } from './routes/ops/access.ts'
import configRoute from './routes/ops/config.ts'
import deadEvents from './routes/ops/dead-events.ts'
import demoLedger from './routes/ops/demo-ledger.ts'
import drain from './routes/ops/drain.ts'
import fleet, { fleetOf } from './routes/ops/fleet.ts'
import health from './routes/ops/health.ts'
import metrics from './routes/ops/metrics.ts'
import ownPages from './routes/ops/own-pages.ts'
import page from './routes/ops/page.ts'
import probes from './routes/ops/probes.ts'
import reports from './routes/ops/reports.ts'

/** Far more than scrapes, probes and open pages need. */
const connectionsMax = 200

export interface OpsOptions {
  /** The public app, whose state this app shows. */
  app: FastifyInstance
  config: Pick<Config, 'ops'>
  logger: FastifyBaseLogger
}

/**
 * The ops port. It is never drained or closed: it answers until the process exits, so that operators can watch and scrape a stop
 * to its end.
 */
export async function buildOps ({ app: service, config, logger }: OpsOptions): Promise<FastifyInstance> {
  const ops = Fastify(serverOptions(logger)).withTypeProvider<TypeBoxTypeProvider>()
  ops.setValidatorCompiler(strictBodies())

  await ops.register(pipelining)
  ops.addHook('onRequest', (_request, reply, done) => {
    reply.header('cache-control', 'no-store')
    done()
  })
  // At debug, because probes, scrapes and polls of the page would fill the log.
  ops.addHook('onResponse', (request, reply, done) => {
    request.log.debug({ method: request.method, url: request.url, status: reply.statusCode, durationMs: Math.round(reply.elapsedTime * 10) / 10 }, 'ops request completed')
    done()
  })

  ops.addHook('onListen', async () => { service.stops.isWatchedAt(ops) })

  await ops.register(errors)
  await ops.register(clientErrors)
  await ops.register(securityHeaders)
  await ops.register(strictHeads)
  await ops.register(ownPages, { allowedHosts: config.ops.allowedHosts })
  await ops.register(jsonBodies)
  holdRoom(ops, { max: connectionsMax, proxies: new TrustedProxies([]), onTurnedAway: reason => service.turnedAway('ops', reason) })
  await ops.register(slowReaders, { onCut: () => service.turnedAway('ops', 'slow-reader') })
  const { running } = service.settings
  const { trustsLoopback } = operatorsOf(config.ops)
  const operators = {
    trustsLoopback,
    get token () {
      return running === undefined ? config.ops.token : running.now.ops.token
    }
  }
  const readFleet = fleetOf(service)
  await ops.register(metrics, { service })
  await ops.register(probes, { service })
  await ops.register(drain, { service, operators })
  await ops.register(fleet, { readFleet })
  await ops.register(health, { service, readFleet })
  await ops.register(reports, { service })
  await ops.register(deadEvents, { service, operators })
  if (running !== undefined) await ops.register(configRoute, { service, running, operators })
  if (service.payments.isDemo) await ops.register(demoLedger, { service })
  await ops.register(page)
  return ops
}
