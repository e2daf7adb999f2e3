import { Counter, Gauge } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { Cashier } from '../orders/cashier.ts'
import { PaymentStore } from '../orders/payment-store.ts'
import type { Payments } from '../orders/ports.ts'
import { PaymentSettler } from '../orders/settler.ts'
import { runInBackground } from './background-worker.ts'
import { answerMarginMs } from './orders.ts'
import { demoPayments } from './demo-payments.ts'
import type { FastifyInstance } from 'fastify'

export interface PaymentsOptions {
  /** Default: the demo gateway, which moves no money. */
  payments?: (Payments & { close? (): Promise<void> }) | undefined
  /** Whether orders may be real: then the log warns of the demo gateway. */
  production: boolean
  /** Whether paying an order takes the money. Else paying authorises it, and shipping captures it. */
  captures: boolean
  /** The time for a call to the gateway, in ms. */
  timeoutMs: number
  requestTimeoutMs: number
}

declare module 'fastify' {
  interface FastifyInstance {
    payments: {
      /** Whether the gateway is the demo's, which moves no money. */
      isDemo: boolean
      cashier: Cashier
      store: PaymentStore
      /** How long a payment belongs to its request before the settler takes it, in ms. */
      leaseMs: number
      /** Call it if there is something to settle, or with the id of a payment or refund of which the gateway has news. Never rejects. */
      wake (id?: string): Promise<void>
    }
  }
}

/** The time reserved for storing the gateway's answer, in ms: a call ends so long before its request. */
const settleReserveMs = 1_000

/** Payments: the gateway, the cashier that calls it, and the settler of payments whose outcome is open. */
export default fp<PaymentsOptions>(async (app, { payments: gateway, production, captures, timeoutMs, requestTimeoutMs }) => {
  const measured = instruments(app)
  const store = new PaymentStore(app.prisma, app.database.functions)
  const leaseMs = 2 * requestTimeoutMs + timeoutMs + settleReserveMs
  const cashier = new Cashier({
    store,
    payments: gateway ?? demoPayments(app.prisma),
    captures,
    leaseMs,
    log: app.log,
    // AbortSignal.timeout() takes only whole numbers, and remaining() has fractions.
    callMs: () => Math.floor(Math.min(timeoutMs, requestTimeoutMs - settleReserveMs / 2, app.drain.remaining() - settleReserveMs - answerMarginMs)),
    settle: app.orders.settle,
    onAnswer: measured.said,
    onMoved: to => {
      app.orders.moved(to)
      app.orders.wakeRelay()
    }
  })
  if (gateway === undefined && production) app.log.warn('PAYMENTS_URL is not set: the demo gateway marks orders as paid, and nobody is charged. Set it before you take orders of real customers.')
  const settler = new PaymentSettler({ store, cashier, log: app.log, leaseMs })
  app.decorate('payments', {
    isDemo: gateway === undefined,
    cashier,
    store,
    leaseMs,
    async wake (id) {
      if (id !== undefined) await store.hurry(id).catch((error: unknown) => app.log.warn({ err: error, payment: id }, 'The settler could not move a payment forward. It settles the payment when it is due.'))
      settler.wake()
    }
  })
  app.metrics.gauge('payments_demo', '1 while the demo gateway marks orders as paid, and nobody is charged', () => gateway === undefined ? 1 : 0)
  app.metrics.ofDatabase({
    instruments: [measured.unsettled, measured.oldest],
    read: async () => await store.unsettled(),
    show: ({ payments, refunds, oldestS }) => {
      measured.unsettled.set({ kind: 'payment' }, payments)
      measured.unsettled.set({ kind: 'refund' }, refunds)
      measured.oldest.set(oldestS)
    }
  })

  runInBackground(app, 'payment settler', settler, { onEnd: async () => await gateway?.close?.() })
}, { name: 'payments', fastify: '5.x', dependencies: ['orders'] })

const words = {
  payment: ['charged', 'authorised', 'declined', 'voided', 'pending', 'unknown', 'not-called'],
  refund: ['refunded', 'failed', 'pending', 'unknown', 'not-called']
} as const

function instruments (app: FastifyInstance) {
  const { registers } = app.metrics
  const said = new Counter({ name: 'gateway_answers_total', help: 'Payments and refunds that the gateway was asked for, by its answer; the settler asks for unknown ones again', labelNames: ['kind', 'said'], registers })
  for (const [kind, all] of Object.entries(words)) for (const word of all) said.inc({ kind, said: word }, 0)
  return {
    said: (kind: string, word: string) => said.inc({ kind, said: word }),
    unsettled: new Gauge({ name: 'payments_unsettled', help: "Payments and refunds that wait for the gateway's answer", labelNames: ['kind'], registers }),
    oldest: new Gauge({ name: 'payments_oldest_unknown_age_seconds', help: 'Age of the oldest payment or refund whose outcome is unknown; 0 if there is none', registers })
  }
}
