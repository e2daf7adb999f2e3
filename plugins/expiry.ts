import fp from 'fastify-plugin'
import { Expiry } from '../orders/expiry.ts'

/** Cancels orders that are not paid in time. It ends with a stop: another instance cancels the rest. */
export default fp<{ unpaidMs: number }>(async (app, { unpaidMs }) => {
  const expiry = new Expiry({
    prisma: app.prisma,
    log: app.log,
    unpaidMs,
    onExpired: count => {
      app.orders.moved('cancelled', count)
      app.orders.wakeRelay()
    }
  })
  let running = Promise.resolve()
  app.addHook('onReady', async () => {
    running = app.drain.track('order expiry', expiry.run())
  })
  app.drain.on('closing', () => expiry.stop(), { name: 'stop the expiry of orders' })
  app.addHook('onClose', async () => {
    expiry.stop()
    await running
  })
}, { name: 'expiry', fastify: '5.x', dependencies: ['orders', 'fastify-drain'] })
