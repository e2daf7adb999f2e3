import { uuidv7 } from '../commit/uuidv7.ts'
import { NotCalled, type Call, type Charge, type Payments, type Refund } from './ports.ts'
import type { Settled, SettleOptions } from '../commit/settle.ts'
import type { Order, OrderRefund, OrderStatus, Payment } from './order.ts'
import type { DuePayment, DueRefund, GatewayAnswer, PaymentBegun, PaymentStore, RefundBegun, SettledPayment } from './payment-store.ts'

export interface CashierLogger {
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

export interface CashierOptions {
  store: PaymentStore
  payments: Payments
  log: CashierLogger
  /** true: the gateway takes the money when an order is paid. false: it authorises it then, and captures it at the shipment. */
  captures: boolean
  /** How long the caller has a payment before the settler takes it, in ms: longer than a request lasts. */
  leaseMs: number
  /** How long the gateway keeps keys, in ms. After that, a charge that it does not find may still have been made. */
  keysKeptMs?: number
  /** The time that a call may take, in ms: the least of what the request, a stop and the gateway's limit leave. */
  callMs: () => number
  /** Runs a write until its outcome is known, within the request's time. */
  settle: <T>(write: () => Promise<T>, options: Pick<SettleOptions<T>, 'repeatable' | 'proves'>) => Promise<Settled<T>>
  /** Called with the gateway's answer, or `unknown`, once it is stored. */
  onAnswer?: (what: 'payment' | 'refund', said: string) => void
  /** Called for each order that this moved. */
  onMoved?: (to: OrderStatus) => void
}

/** open: the gateway has not answered or not finished, and the settler goes on asking. not-called: nobody was charged, and nothing is under way. */
export type Paid =
  | { outcome: 'paid' | 'declined' | 'open' | 'not-called', order: Order, payment: Payment }
  | Exclude<Settled<PaymentBegun>, { outcome: 'begun' | 'paid' }>
  | { outcome: 'paid', order: Order }

export type Shipped = { outcome: 'shipped' | 'declined' | 'open', order: Order, payment: Payment } | { outcome: 'outcome-unknown' }

export type Refunded = Exclude<Settled<RefundBegun>, { outcome: 'begun' }> | { outcome: 'begun', refund: OrderRefund }

/** With less time than this, in ms, the gateway is not called: its answer would hardly come. */
const callMinMs = 50

/** The pauses between two calls about the same payment, in ms: 1 s, 2 s, 4 s … 1 min. */
const pauseMinMs = 1_000
const pauseMaxMs = 60_000

/** Gateways keep keys for a day; this is an hour less. */
const defaultKeysKeptMs = 23 * 3_600_000

/**
 * Has orders paid in three steps, so that nobody is charged twice and nothing is forgotten: it stores the intent (one commit),
 * calls the gateway (outside any transaction, with the payment's id as the key), and stores the answer (one commit). If a lost
 * answer, a crash or a stop leaves a payment open, the settler asks the gateway first.
 */
export class Cashier {
  readonly #options: Required<CashierOptions>

  constructor (options: CashierOptions) {
    this.#options = { keysKeptMs: defaultKeysKeptMs, onAnswer: () => {}, onMoved: () => {}, ...options }
  }

  /** @param customer whose order it must be; null for anyone's */
  async pay (orderId: string, customer: string | null, expectedVersions: number[] | null): Promise<Paid> {
    const { store, payments, captures, leaseMs, settle } = this.#options
    const id = uuidv7(Date.now())
    const begun = await settle(() => store.begin(id, orderId, customer, expectedVersions, captures, leaseMs), { repeatable: true, proves: ({ outcome }) => outcome === 'begun' || outcome === 'paid' || outcome === 'already' || outcome === 'not-found' })
    if (begun.outcome === 'under-way' && askedAtOnce.has(begun.payment.state)) return await this.#settlePaid(begun.payment, await this.#look(dueOf(begun)))
    if (begun.outcome !== 'begun') return begun
    const { payment, order } = begun
    return await this.#settlePaid(payment, await this.#ask(payment, call =>
      payments.charge({ ...payment, order: order.id, customer: order.customer, captures }, call)))
  }

  /** Captures a payment whose capture `store.transition` has begun or found begun, and ships its order. */
  async ship ({ order, payment }: { order: Order, payment: Payment }): Promise<Shipped> {
    const { settle } = this.#options
    const answer = await this.#look(dueOf({ order, payment }))
    const settled = await settle(() => this.#write(payment.id, answer), { repeatable: true, proves: () => true })
    if ('outcome' in settled) return { outcome: 'outcome-unknown' }
    return { ...settled, outcome: !settled.isSettled ? 'open' : settled.payment.state === 'charged' ? 'shipped' : 'declined' }
  }

  /** Refunds money, once for each key. @param amount null: all that is left */
  async refund (orderId: string, asked: { amount: bigint | null, why: string | null, askedBy: string, idempotencyKey: string }): Promise<Refunded> {
    const { store, leaseMs, settle } = this.#options
    const id = uuidv7(Date.now())
    const begun = await settle(() => store.beginRefund(id, orderId, asked, leaseMs), { repeatable: true, proves: ({ outcome }) => outcome === 'begun' || outcome === 'replayed' || outcome === 'key-reused' })
    if (begun.outcome !== 'begun') return begun
    const answer = await this.#askRefund(begun.refund, call => this.#options.payments.refund({ ...begun.refund, charge: begun.refund.paymentId }, call))
    const settled = await settle(() => store.settleRefund(id, answer), { repeatable: true, proves: () => true })
    // The refund is stored, so the settler goes on with it.
    if ('outcome' in settled) return begun
    this.#options.onAnswer('refund', answer.said)
    return { outcome: 'begun', refund: settled.refund }
  }

  /** Settles a payment whose lease has expired. */
  async settleDue (due: DuePayment): Promise<void> {
    await this.#write(due.id, await this.#look(due))
  }

  /** Asks the gateway for the state of a payment, and only then acts. */
  async #look (due: DuePayment): Promise<GatewayAnswer<Charge['state']>> {
    const { payments } = this.#options
    return await this.#ask(due, async call => {
      const found = await payments.find(due.id, call)
      switch (due.state) {
        case 'capturing': return found === undefined || found.state !== 'authorised' ? found : await payments.capture(due.id, due.amount, call)
        case 'voiding': return found?.state === 'authorised' || found?.state === 'pending' ? await payments.void(due.id, call) : found
        // The gateway reported this charge before. If it does not find it now, it must not charge again.
        case 'pending': return found
        default: return found ?? (this.#mayRepeat(due) ? await payments.charge({ ...due, order: due.orderId }, call) : undefined)
      }
    })
  }

  async settleDueRefund (due: DueRefund): Promise<void> {
    const { payments, store, onAnswer } = this.#options
    const answer = await this.#askRefund(due, async call =>
      await payments.findRefund(due.id, call) ?? (this.#mayRepeat(due) ? await payments.refund({ ...due, charge: due.paymentId }, call) : undefined))
    await store.settleRefund(due.id, answer)
    onAnswer('refund', answer.said)
  }

  /** Stores the gateway's answer. @returns what that makes of the payment */
  async #settlePaid ({ id }: Payment, answer: GatewayAnswer<Charge['state']>): Promise<Paid> {
    const settled = await this.#options.settle(() => this.#write(id, answer), { repeatable: true, proves: () => true })
    // The gateway may have the money, whatever the database says.
    if ('outcome' in settled) return { outcome: answer.said === 'not-called' ? settled.outcome : 'outcome-unknown' }
    if (settled.payment.state === 'declined') return { ...settled, outcome: answer.said === 'not-called' ? 'not-called' : 'declined' }
    // The order was cancelled before the answer came, so the money goes back.
    if (settled.order.status === 'cancelled') return { outcome: 'not-allowed', order: settled.order }
    return { ...settled, outcome: settled.isSettled ? 'paid' : 'open' }
  }

  async #write (id: string, answer: GatewayAnswer<Charge['state']>): Promise<SettledPayment> {
    const { store, onAnswer, onMoved } = this.#options
    const settled = await store.settle(id, answer)
    onAnswer('payment', answer.said)
    if (settled.movedTo !== null) onMoved(settled.movedTo)
    return settled
  }

  #mayRepeat ({ ageMs }: { ageMs: number }): boolean {
    return ageMs < this.#options.keysKeptMs
  }

  async #ask (payment: { id: string, orderId: string, amount: bigint, currency: string, tries?: number }, ask: (call: Call) => Promise<Charge | undefined>): Promise<GatewayAnswer<Charge['state']>> {
    return await this.#answerOf(payment, 'payment', ask, ({ amount, currency }) => amount === payment.amount && currency === payment.currency)
  }

  async #askRefund (refund: { id: string, orderId: string, amount: bigint, tries?: number }, ask: (call: Call) => Promise<Refund | undefined>): Promise<GatewayAnswer<Refund['state']>> {
    return await this.#answerOf(refund, 'refund', ask, ({ amount }) => amount === refund.amount)
  }

  async #answerOf<Said extends Charge | Refund> (about: { id: string, orderId: string, tries?: number }, what: 'payment' | 'refund', ask: (call: Call) => Promise<Said | undefined>, isAsAsked: (said: Said) => boolean): Promise<GatewayAnswer<Said['state']>> {
    const { log, callMs } = this.#options
    const retryMs = pauseMs(about.tries ?? 0)
    const remainingMs = callMs()
    if (remainingMs < callMinMs) return { said: 'not-called', error: 'There was no time left to call the gateway', retryMs }
    const details = { [what]: about.id, order: about.orderId, retryMs }
    try {
      const said = await ask({ signal: AbortSignal.timeout(remainingMs), remainingMs })
      if (said === undefined) {
        const error = `The gateway has no such ${what}, and may have forgotten the key. The ${what} was not requested again`
        log.error(details, `${error}. Look for the order's number at the gateway, and see docs/runbooks/payments-unknown.md.`)
        return { said: 'unknown', error, retryMs }
      }
      if (!isAsAsked(said)) {
        const error = `The gateway has this ${what} with another amount: ${said.amount}`
        log.error({ ...details, reference: said.reference }, `${error}. Nothing was settled. See docs/runbooks/payments-unknown.md.`)
        return { said: 'unknown', error, retryMs }
      }
      return { said: said.state, reference: said.reference, reason: said.reason, actionUrl: 'actionUrl' in said ? said.actionUrl : undefined, retryMs }
    } catch (error) {
      const wasCalled = !(error instanceof NotCalled)
      log.warn({ ...details, err: error }, wasCalled ? `The gateway did not say what became of a ${what}. The settler asks it again.` : `The gateway could not be reached for a ${what}. It did nothing.`)
      return { said: wasCalled ? 'unknown' : 'not-called', error: error instanceof Error ? error.message : String(error), retryMs }
    }
  }
}

/** In these states a repeated `pay` asks the gateway at once. For a requested payment, the first `pay` is still asking. */
const askedAtOnce: ReadonlySet<Payment['state']> = new Set(['unknown', 'pending'])

function dueOf ({ order, payment }: { order: Order, payment: Payment }): DuePayment {
  return { ...payment, customer: order.customer, tries: 0, ageMs: Date.now() - payment.requestedAt.getTime() }
}

/** Up to half as long again, at random, so that many payments do not ask in step. */
function pauseMs (tries: number): number {
  return Math.round(Math.min(pauseMinMs * 2 ** Math.min(tries, 10), pauseMaxMs) * (1 + Math.random() / 2))
}
