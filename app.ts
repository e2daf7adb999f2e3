import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import drain, { type DrainOptions } from 'fastify-drain'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { versionOf, type Config } from './config.ts'
import type { RunningSettings } from './config/running.ts'
import type { Customers, Payments } from './orders/ports.ts'
import type { Publisher } from './orders/publisher.ts'
import auth, { type AuthOptions } from './plugins/auth.ts'
import calls from './plugins/calls.ts'
import { TrustedProxies } from './plugins/client-address.ts'
import clientErrors from './plugins/client-errors.ts'
import connections from './plugins/connections.ts'
import cors from './plugins/cors.ts'
import customersPlugin from './plugins/customers.ts'
import database from './plugins/database.ts'
import envoy from './plugins/envoy.ts'
import errors, { problems, typeOf } from './plugins/errors.ts'
import expiry from './plugins/expiry.ts'
import health from './plugins/health.ts'
import { httpCustomers } from './plugins/http-customers.ts'
import { httpPayments } from './plugins/http-payments.ts'
import { httpPublisher } from './plugins/http-publisher.ts'
import issuer from './plugins/issuer.ts'
import jsonBodies from './plugins/json-bodies.ts'
import limits from './plugins/limits.ts'
import load from './plugins/load.ts'
import metrics from './plugins/metrics.ts'
import openapi from './plugins/openapi.ts'
import orca from './plugins/orca.ts'
import ordersPlugin from './plugins/orders.ts'
import paymentsPlugin from './plugins/payments.ts'
import pipelining from './plugins/pipelining.ts'
import preconditions from './plugins/preconditions.ts'
import productsPlugin from './plugins/products.ts'
import rateLimit from './plugins/rate-limit.ts'
import registry from './plugins/registry.ts'
import reload from './plugins/reload.ts'
import requestLog from './plugins/request-log.ts'
import requestTelemetry from './plugins/request-telemetry.ts'
import retention from './plugins/retention.ts'
import securityHeaders from './plugins/security-headers.ts'
import { serverOptions } from './plugins/server-options.ts'
import settings from './plugins/settings.ts'
import slowReaders from './plugins/slow-readers.ts'
import stops from './plugins/stops.ts'
import { strictBodies } from './plugins/strict-bodies.ts'
import strictHeads from './plugins/strict-heads.ts'
import tracing from './plugins/tracing.ts'
import traffic from './plugins/traffic.ts'
import webhooksPlugin from './plugins/webhooks.ts'
import notifications, { standardWebhooks } from './routes/notifications.ts'
import orders from './routes/orders.ts'
import paymentRoutes from './routes/payments.ts'
import probes from './routes/probes.ts'
import products from './routes/products.ts'
import returns from './routes/returns.ts'
import stream from './routes/stream.ts'
import webhooks from './routes/webhooks.ts'
import type { Tracing } from './tracing/start.ts'

export interface AppOptions {
  config: Config
  /** The same settings, if they may change while the service runs. */
  running?: RunningSettings | undefined
  /** Its URL, and what to call once the pool is closed. */
  database: { url: string, release?: () => Promise<void> }
  auth: AuthOptions
  logger: FastifyBaseLogger
  /** In addition to the times, which come from the config. */
  drain?: DrainOptions
  /** Publishes the order events. Default: to EVENTS_URL, or to the log if that is not set. */
  publisher?: Publisher
  /** Says who may order; closed with the app. Default: CUSTOMERS_URL, or everybody if that is not set. */
  customers?: Customers & { close? (): Promise<void> }
  /** The payment gateway; closed with the app. Default: PAYMENTS_URL, or the demo gateway, which moves no money. */
  payments?: Payments & { close? (): Promise<void> }
  /** Sends the traces. Without it traces are off. */
  traces?: Tracing | undefined
}

/**
 * Composes the service. The sequence matters: what is registered first closes last. So the database outlives the drain, and the
 * drain outlives everything that can still begin work.
 */
export async function buildApp (
  { config, running, database: { url, release }, auth: tokens, logger, drain: drainOptions, publisher, customers, payments, traces }: AppOptions
): Promise<FastifyInstance> {
  const { requestTimeoutMs } = config
  const { gateway, capture, notifySecret } = config.payments
  const app = Fastify(serverOptions(logger)).withTypeProvider<TypeBoxTypeProvider>()
  app.setValidatorCompiler(strictBodies())

  await app.register(pipelining)
  await app.register(settings, { config, running })
  await app.register(errors)
  await app.register(requestTelemetry)
  await app.register(tracing, { followsCallers: config.tracing.followsCallers, traces })
  await app.register(clientErrors)
  await app.register(securityHeaders)
  await app.register(jsonBodies)
  await app.register(metrics, { build: config.build })
  await app.register(calls)
  await app.register(requestLog)

  await app.register(database, { url, release, pool: config.database.pool, requestTimeoutMs })
  await app.register(stops, { deadlineMs: config.drain.deadlineMs, version: versionOf(config), databaseUrl: url })
  await app.register(drain, {
    lameDuck: { min: config.drain.minMs, quiet: config.drain.quietMs, max: config.drain.maxMs },
    deadline: config.drain.deadlineMs,
    refusal: { type: typeOf('not-started'), title: problems['not-started'].title },
    ...config.drain.reportFile !== undefined && { reportFile: config.drain.reportFile },
    ...traces !== undefined && { onReport: async report => await app.traceStop(report) },
    ...drainOptions
  })

  await app.register(strictHeads)
  if (config.corsOrigins.length > 0) await app.register(cors, { origins: config.corsOrigins })
  if (running !== undefined) await app.register(reload, { running })
  await app.register(load, { pool: config.database.pool, intake: config.intake })
  await app.register(traffic, { lameDuck: config.drain })
  await app.register(health)
  if (config.registry !== undefined) await app.register(registry, config.registry)
  if (config.envoyHealthHeader) await app.register(envoy)
  if (config.orcaLoadMetrics) await app.register(orca)
  const proxies = new TrustedProxies(config.trustedProxies)
  await app.register(connections, { max: config.maxConnections, perAddress: config.connectionsPerAddress, proxies })
  await app.register(slowReaders, { onCut: () => app.turnedAway('api', 'slow-reader') })
  await app.register(limits)
  // Also without a limit, if central settings may set one later. Without either, no request pays for the counting.
  if (config.rateLimit !== undefined || running?.layers.central !== undefined) {
    await app.register(rateLimit, { perMinute: () => app.settings.now.rateLimit, store: config.rateLimitStore, proxies })
  }
  await app.register(auth, tokens)
  if ('jwksUrl' in tokens) await app.register(issuer, tokens)
  await app.register(preconditions)
  const { directory } = config.customers
  await app.register(customersPlugin, {
    customers: customers ?? (directory && httpCustomers({
      ...directory,
      token: () => app.settings.now.customers.directory?.token,
      log: logger,
      onEnd: app.observeCall
    })),
    check: () => app.settings.now.customers.check,
    requestTimeoutMs
  })
  await app.register(webhooksPlugin, { allowsPrivate: config.webhooks.privateAddresses })
  await app.register(productsPlugin)
  const events = config.events && { ...config.events, token: () => app.settings.now.events?.token }
  await app.register(ordersPlugin, { intake: config.intake, requestTimeoutMs, publisher: publisher ?? (events && httpPublisher(events)) })
  await app.register(paymentsPlugin, {
    payments: payments ?? (gateway && httpPayments({ ...gateway, token: () => app.settings.now.payments.gateway?.token, log: logger, onEnd: app.observeCall })),
    production: config.production,
    captures: capture === 'sale',
    timeoutMs: gateway?.timeoutMs ?? 5_000,
    requestTimeoutMs
  })
  await app.register(expiry, { unpaidMs: config.orderExpiryMs })
  await app.register(retention, config.retention)
  await app.register(openapi, { page: config.docs })

  await app.register(probes)
  await app.register(products)
  await app.register(orders)
  await app.register(paymentRoutes)
  if (notifySecret !== undefined) {
    await app.register(notifications, {
      read: (headers, body) => standardWebhooks(app.settings.now.payments.notifySecret ?? notifySecret)(headers, body),
      wake: async id => await app.payments.wake(id)
    })
  }
  await app.register(returns)
  await app.register(stream, config.streams)
  await app.register(webhooks, { production: config.production, allowsPrivate: config.webhooks.privateAddresses })
  return app
}
