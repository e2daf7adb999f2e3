import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Retention } from '../orders/retention.ts'
import { runInBackground } from './background-worker.ts'

/** Deletes rows that were kept long enough. It ends with a stop: another instance deletes the rest. */
export default fp<Config['retention']>(async (app, { outboxMs, stopsMs, deliveriesMs }) => {
  const retention = new Retention({ prisma: app.prisma, log: app.log, outboxMs, stopsMs, deliveriesMs })
  runInBackground(app, 'retention', retention, { stopsAt: 'draining' })
}, { name: 'retention', fastify: '5.x', dependencies: ['database', 'fastify-drain'] })
