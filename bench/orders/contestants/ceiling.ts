import Fastify, { type FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { uuidv7 } from '../../../commit/uuidv7.ts'
import { loadConfig } from '../../../config.ts'
import auth from '../../../plugins/auth.ts'
import pipelining from '../../../plugins/pipelining.ts'
import errors from '../../../plugins/errors.ts'
import jsonBodies from '../../../plugins/json-bodies.ts'
import openapi from '../../../plugins/openapi.ts'
import preconditions from '../../../plugins/preconditions.ts'
import requestLog from '../../../plugins/request-log.ts'
import requestTelemetry from '../../../plugins/request-telemetry.ts'
import securityHeaders from '../../../plugins/security-headers.ts'
import { serverOptions } from '../../../plugins/server-options.ts'
import settings from '../../../plugins/settings.ts'
import { strictBodies } from '../../../plugins/strict-bodies.ts'
import strictHeads from '../../../plugins/strict-heads.ts'
import orders from '../../../routes/orders.ts'
import type { OrderRequest } from '../../../orders/order.ts'
import type { IntakeOutcome } from '../../../orders/intake.ts'

// The service's own route with authentication, validation, errors and log, but no database: the rate that HTTP alone would allow.

const { AUTH_JWT_SECRET: secret = '', PORT } = process.env
const unitPrice = 500n

const app = Fastify(serverOptions(pino()))
app.setValidatorCompiler(strictBodies())
await app.register(errors)
await app.register(securityHeaders)
await app.register(strictHeads)
await app.register(pipelining)
await app.register(jsonBodies)
app.decorate('drain', { signal: new AbortController().signal, on: () => () => {} } as unknown as FastifyInstance['drain'])
await app.register(requestTelemetry)
await app.register(requestLog)
await app.register(settings, { config: loadConfig({}), running: undefined })
await app.register(auth, { secret })
await app.register(preconditions)
await app.register(openapi, { page: false })
app.decorate('orders', { intake: { place } } as unknown as FastifyInstance['orders'])
app.decorate('customers', { check: () => 'active' as const, mayOrder: [] })
await app.register(orders)
await app.listen({ host: '127.0.0.1', port: Number(PORT) })

async function place ({ customer, currency, items, reference }: OrderRequest): Promise<IntakeOutcome> {
  return {
    outcome: 'created',
    order: {
      id: uuidv7(Date.now()),
      customer,
      status: 'placed',
      currency,
      items: items.map(item => ({ ...item, unitPrice })),
      total: items.reduce((total, { quantity }) => total + BigInt(quantity) * unitPrice, 0n),
      reference,
      version: 1,
      createdAt: new Date()
    },
    tx: 0n
  }
}
