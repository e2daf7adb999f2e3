import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import type { Call, Customers, CustomerStatus } from '../orders/ports.ts'
import { notStarted, Problem } from './errors.ts'
import { answerMarginMs } from './orders.ts'
import { callWithin } from './outbound.ts'
import type { preHandlerHookHandler } from 'fastify'

/** How long an answer of the directory is fresh, in ms: a suspension may take so long to be seen. */
const freshMs = 30_000
/** How long a refusal is fresh: a customer who is new, or allowed again, should not wait long. */
const refusalFreshMs = 5_000
/** How long an answer counts while the directory does not answer, in ms. It is asked again every second. */
const staleMs = 300_000
const retryMs = 1_000
/** Answers kept, at most. */
const knownMax = 10_000

/** unavailable: the directory does not answer, and no earlier answer counts. */
export type CustomerCheck = CustomerStatus | 'unavailable'

export interface CustomersOptions {
  /** undefined: nobody is checked. */
  customers: (Customers & { close? (): Promise<void> }) | undefined
  check: () => Config['customers']['check']
  requestTimeoutMs: number
}

declare module 'fastify' {
  interface FastifyInstance {
    customers: {
      /** Synchronous if the answer is known, so that the order does not wait. */
      check (customer: string): CustomerCheck | Promise<CustomerCheck>
      /** For routes: refuses a customer who may not order. */
      readonly mayOrder: preHandlerHookHandler[]
    }
  }
}

/** Asks the directory which customers may order. */
export default fp<CustomersOptions>(async (app, { customers, check: policy, requestTimeoutMs }) => {
  if (customers === undefined) {
    app.decorate('customers', { check: () => 'active' as const, mayOrder: [] })
    return
  }
  const questions = new Counter({ name: 'customer_directory_questions_total', help: 'Questions to the directory of customers, by its answer. It gave no answer: stale, an earlier one counted; unavailable, there was none', labelNames: ['outcome'], registers: app.metrics.registers })
  for (const outcome of ['active', 'suspended', 'unknown', 'stale', 'unavailable'] as const) questions.inc({ outcome }, 0)
  const known = new KnownCustomers({
    customers,
    // Many requests may wait for one answer, so no single one sets its deadline.
    call: () => callWithin(requestTimeoutMs - answerMarginMs, app.drain.remaining() - answerMarginMs),
    onAnswer: outcome => questions.inc({ outcome }),
    onFailure: error => app.log.debug({ err: error }, 'The directory of customers could not be asked.')
  })

  function problemOf (check: CustomerCheck): Problem | undefined {
    switch (check) {
      case 'active': return undefined
      case 'suspended': return new Problem('customer-suspended', 'The customer is suspended and may not order. This request stored nothing.')
      case 'unknown': return new Problem('customer-unknown', 'The directory has no such customer. This request stored nothing.')
      case 'unavailable': return policy() === 'tolerant' ? undefined : notStarted('The customer could not be checked: the directory of customers does not answer.')
    }
  }

  app.decorate('customers', {
    check: customer => known.check(customer),
    mayOrder: [(request, _reply, done) => {
      const check = known.check(request.customer)
      if (check instanceof Promise) check.then(problemOf).then(done, done)
      else done(problemOf(check))
    }]
  })
  app.addHook('onClose', async () => { await customers.close?.() })
}, { name: 'customers', fastify: '5.x', dependencies: ['auth', 'fastify-drain', 'metrics'] })

export interface KnownCustomersOptions {
  customers: Customers
  /** The time that a question has. */
  call: () => Call
  onAnswer: (outcome: CustomerStatus | 'stale' | 'unavailable') => void
  onFailure: (error: unknown) => void
  /** ms. */
  now?: () => number
}

interface Known {
  status: CustomerStatus
  freshUntilMs: number
  staleUntilMs: number
}

/** Caches what the directory said. It asks about one customer once at a time. */
export class KnownCustomers {
  readonly #options: KnownCustomersOptions
  readonly #now: () => number
  readonly #known = new Map<string, Known>()
  readonly #asking = new Map<string, Promise<CustomerCheck>>()

  constructor (options: KnownCustomersOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  get size (): number {
    return this.#known.size
  }

  check (customer: string): CustomerCheck | Promise<CustomerCheck> {
    const hit = this.#known.get(customer)
    if (hit !== undefined && this.#now() < hit.freshUntilMs) return hit.status
    const underWay = this.#asking.get(customer)
    if (underWay !== undefined) return underWay
    const asking = this.#ask(customer, hit).finally(() => this.#asking.delete(customer))
    this.#asking.set(customer, asking)
    return asking
  }

  async #ask (customer: string, before: Known | undefined): Promise<CustomerCheck> {
    const { customers, call, onAnswer, onFailure } = this.#options
    try {
      const status = await customers.validate(customer, call())
      this.#remember(customer, status)
      onAnswer(status)
      return status
    } catch (error) {
      onFailure(error)
      const isStale = before !== undefined && this.#now() < before.staleUntilMs
      onAnswer(isStale ? 'stale' : 'unavailable')
      if (!isStale) return 'unavailable'
      before.freshUntilMs = this.#now() + retryMs
      return before.status
    }
  }

  #remember (customer: string, status: CustomerStatus): void {
    // Moves it to the end: the first key is then the oldest answer.
    this.#known.delete(customer)
    const [oldest] = this.#known.keys()
    if (this.#known.size >= knownMax && oldest !== undefined) this.#known.delete(oldest)
    const now = this.#now()
    this.#known.set(customer, { status, freshUntilMs: now + (status === 'active' ? freshMs : refusalFreshMs), staleUntilMs: now + staleMs })
  }
}
