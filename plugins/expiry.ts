import fp from 'fastify-plugin'
import { Expiry } from '../orders/expiry.ts'
import { runInBackground } from './background-worker.ts'

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
  runInBackground(app, 'order expiry', expiry)
}, { name: 'expiry', fastify: '5.x', dependencies: ['orders', 'fastify-drain'] })
