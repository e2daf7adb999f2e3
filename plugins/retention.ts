import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Retention } from '../orders/retention.ts'

/** Deletes rows that were kept long enough. It ends with a stop: another instance deletes the rest. */
export default fp<Config['retention']>(async (app, { outboxMs, stopsMs, deliveriesMs }) => {
  const retention = new Retention({ prisma: app.prisma, log: app.log, outboxMs, stopsMs, deliveriesMs })
  let running = Promise.resolve()
  app.addHook('onReady', async () => {
    running = app.drain.track('retention', retention.run())
  })
  app.drain.on('draining', () => retention.stop(), { name: 'stop the retention' })
  app.addHook('onClose', async () => {
    retention.stop()
    await running
  })
}, { name: 'retention', fastify: '5.x', dependencies: ['database', 'fastify-drain'] })
