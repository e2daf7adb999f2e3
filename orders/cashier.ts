import { NotCalled, type Call, type Charge, type Payments, type Refund } from './ports.ts'
import type { Order, OrderRefund, OrderStatus, Payment } from './order.ts'
import type { DuePayment, DueRefund, PaymentBegun, PaymentStore, RefundBegun, SettledPayment, Word } from './payment-store.ts'
import type { Settled, SettleOptions } from './settle.ts'
import { uuidv7 } from './uuidv7.ts'

export interface CashierLogger {
  warn (details: object, message: string): void
  error (details: object, message: string): void
}

export interface CashierOptions {
  store: PaymentStore
  payments: Payments
  log: CashierLogger
  /** Whether the money is taken when an order is paid, or authorised then and captured when it is shipped. */
  captures: boolean
  /** How long a payment is the caller's before the settler takes it, in ms: longer than a request lasts. */
  leaseMs: number
  /** How long the gateway keeps keys, in ms: what it does not know after that may have been done all the same. */
  keysKeptMs?: number
  /** What a call may take, in ms: the least of what the request, a stop and the gateway's limit leave. */
  callMs: () => number
  /** Runs a write until its outcome is known, within the time that a request has. */
  settle: <T>(write: () => Promise<T>, options: Pick<SettleOptions<T>, 'repeatable' | 'proves'>) => Promise<Settled<T>>
  /** Told of what the gateway said, or did not say, once it is written down. */
  onWord?: (what: 'payment' | 'refund', said: string) => void
  /** Told of each order that was moved by it. */
  onMoved?: (to: OrderStatus) => void
}

/** open: the gateway has not said, or is still at it; the settler asks on. not-called: nobody was charged, and nothing is under way. */
export type Paid =
  | { outcome: 'paid' | 'declined' | 'open' | 'not-called', order: Order, payment: Payment }
  | Exclude<Settled<PaymentBegun>, { outcome: 'begun' | 'paid' }>
  | { outcome: 'paid', order: Order }

export type Shipped = { outcome: 'shipped' | 'declined' | 'open', order: Order, payment: Payment } | { outcome: 'outcome-unknown' }

export type Refunded = Exclude<Settled<RefundBegun>, { outcome: 'begun' }> | { outcome: 'begun', refund: OrderRefund }

/** Below this nothing is begun with the gateway, in ms: the answer would hardly come. */
const callMinMs = 50

/** The pauses between two questions about the same payment, in ms: 1 s, 2 s, 4 s … 1 min. */
const pauseMinMs = 1_000
const pauseMaxMs = 60_000

/** A day, as gateways keep keys, less an hour. */
const defaultKeysKeptMs = 23 * 3_600_000

/**
 * Has orders paid. Three steps, so that nobody is charged twice and nothing is forgotten, whatever ends in between: the intent is
 * stored (one commit), the gateway is asked (outside any transaction, keyed by the payment's own id), its word is written down
 * (one commit). What is left open by a lost answer, a crash or a stop is settled by asking the gateway first.
 */
export class Cashier {
  readonly #options: Required<CashierOptions>

  constructor (options: CashierOptions) {
    this.#options = { keysKeptMs: defaultKeysKeptMs, onWord: () => {}, onMoved: () => {}, ...options }
  }

  /** @param customer whose order it must be; null for anyone's */
  async pay (orderId: string, customer: string | null, expectedVersions: number[] | null): Promise<Paid> {
    const { store, payments, captures, leaseMs, settle } = this.#options
    const id = uuidv7(Date.now())
    const begun = await settle(() => store.begin(id, orderId, customer, expectedVersions, captures, leaseMs), { repeatable: true, proves: ({ outcome }) => outcome === 'begun' || outcome === 'paid' || outcome === 'already' || outcome === 'not-found' })
    if (begun.outcome === 'under-way' && asksAgain.has(begun.payment.state)) return await this.#settlePaid(begun.payment, await this.#look(dueOf(begun)))
    if (begun.outcome !== 'begun') return begun
    const { payment, order } = begun
    return await this.#settlePaid(payment, await this.#ask(payment, call => payments.charge({ ...payment, order: order.id, customer: order.customer, captures }, call)))
  }

  /** Captures a payment that `store.transition` has begun to, or found begun, and ships its order. */
  async ship ({ order, payment }: { order: Order, payment: Payment }): Promise<Shipped> {
    const { settle } = this.#options
    const word = await this.#look(dueOf({ order, payment }))
    const settled = await settle(() => this.#write(payment.id, word), { repeatable: true, proves: () => true })
    if ('outcome' in settled) return { outcome: 'outcome-unknown' }
    return { ...settled, outcome: !settled.isSettled ? 'open' : settled.payment.state === 'charged' ? 'shipped' : 'declined' }
  }

  /** Gives money back, once for each key. @param amount null: all that is left */
  async refund (orderId: string, asked: { amount: bigint | null, why: string | null, askedBy: string, idempotencyKey: string }): Promise<Refunded> {
    const { store, leaseMs, settle } = this.#options
    const id = uuidv7(Date.now())
    const begun = await settle(() => store.beginRefund(id, orderId, asked, leaseMs), { repeatable: true, proves: ({ outcome }) => outcome === 'begun' || outcome === 'replayed' || outcome === 'key-reused' })
    if (begun.outcome !== 'begun') return begun
    const word = await this.#askRefund(begun.refund, call => this.#options.payments.refund({ ...begun.refund, charge: begun.refund.paymentId }, call))
    const settled = await settle(() => store.settleRefund(id, word), { repeatable: true, proves: () => true })
    // It is stored all the same, and the settler goes on with it.
    if ('outcome' in settled) return begun
    this.#options.onWord('refund', word.said)
    return { outcome: 'begun', refund: settled.refund }
  }

  /** Settles a payment whose lease is over. */
  async settleDue (due: DuePayment): Promise<void> {
    await this.#write(due.id, await this.#look(due))
  }

  /** Asks what became of a payment, and only then acts. */
  async #look (due: DuePayment): Promise<Word<Charge['state']>> {
    const { payments } = this.#options
    return await this.#ask(due, async call => {
      const found = await payments.find(due.id, call)
      switch (due.state) {
        case 'capturing': return found === undefined || found.state !== 'authorised' ? found : await payments.capture(due.id, due.amount, call)
        case 'voiding': return found?.state === 'authorised' || found?.state === 'pending' ? await payments.void(due.id, call) : found
        // It told of the charge before: one that it does not find is not made anew.
        case 'pending': return found
        default: return found ?? (this.#mayRepeat(due) ? await payments.charge({ ...due, order: due.orderId }, call) : undefined)
      }
    })
  }

  async settleDueRefund (due: DueRefund): Promise<void> {
    const { payments, store, onWord } = this.#options
    const word = await this.#askRefund(due, async call =>
      await payments.findRefund(due.id, call) ?? (this.#mayRepeat(due) ? await payments.refund({ ...due, charge: due.paymentId }, call) : undefined))
    await store.settleRefund(due.id, word)
    onWord('refund', word.said)
  }

  /** Writes down what the gateway said of a payment, and tells what that makes of it. */
  async #settlePaid ({ id }: Payment, word: Word<Charge['state']>): Promise<Paid> {
    const settled = await this.#options.settle(() => this.#write(id, word), { repeatable: true, proves: () => true })
    // The gateway may have the money, whatever the database says.
    if ('outcome' in settled) return { outcome: word.said === 'not-called' ? settled.outcome : 'outcome-unknown' }
    if (settled.payment.state === 'declined') return { ...settled, outcome: word.said === 'not-called' ? 'not-called' : 'declined' }
    // What was paid for it goes back: it was cancelled before the word came.
    if (settled.order.status === 'cancelled') return { outcome: 'not-allowed', order: settled.order }
    return { ...settled, outcome: settled.isSettled ? 'paid' : 'open' }
  }

  async #write (id: string, word: Word<Charge['state']>): Promise<SettledPayment> {
    const { store, onWord, onMoved } = this.#options
    const settled = await store.settle(id, word)
    onWord('payment', word.said)
    if (settled.movedTo !== null) onMoved(settled.movedTo)
    return settled
  }

  #mayRepeat ({ ageMs }: { ageMs: number }): boolean {
    return ageMs < this.#options.keysKeptMs
  }

  async #ask (payment: { id: string, orderId: string, amount: bigint, currency: string, tries?: number }, ask: (call: Call) => Promise<Charge | undefined>): Promise<Word<Charge['state']>> {
    return await this.#word(payment, 'payment', ask, ({ amount, currency }) => amount === payment.amount && currency === payment.currency)
  }

  async #askRefund (refund: { id: string, orderId: string, amount: bigint, tries?: number }, ask: (call: Call) => Promise<Refund | undefined>): Promise<Word<Refund['state']>> {
    return await this.#word(refund, 'refund', ask, ({ amount }) => amount === refund.amount)
  }

  async #word<Said extends Charge | Refund> (about: { id: string, orderId: string, tries?: number }, what: 'payment' | 'refund', ask: (call: Call) => Promise<Said | undefined>, isAsAsked: (said: Said) => boolean): Promise<Word<Said['state']>> {
    const { log, callMs } = this.#options
    const retryMs = pauseMs(about.tries ?? 0)
    const remainingMs = callMs()
    if (remainingMs < callMinMs) return { said: 'not-called', error: 'There was no time left to ask the gateway', retryMs }
    const details = { [what]: about.id, order: about.orderId, retryMs }
    try {
      const said = await ask({ signal: AbortSignal.timeout(remainingMs), remainingMs })
      if (said === undefined) {
        const error = `The gateway has no such ${what}, and may have forgotten the key: it is not asked again`
        log.error(details, `${error}. Look there by the order's number, and see docs/runbooks/payments-unknown.md.`)
        return { said: 'unknown', error, retryMs }
      }
      if (!isAsAsked(said)) {
        const error = `The gateway has this ${what} with another amount: ${said.amount}`
        log.error({ ...details, reference: said.reference }, `${error}. Nothing is settled by it. See docs/runbooks/payments-unknown.md.`)
        return { said: 'unknown', error, retryMs }
      }
      return { said: said.state, reference: said.reference, reason: said.reason, actionUrl: 'actionUrl' in said ? said.actionUrl : undefined, retryMs }
    } catch (error) {
      const wasCalled = !(error instanceof NotCalled)
      log.warn({ ...details, err: error }, wasCalled ? `The gateway did not say what became of a ${what}: it is asked again.` : `The gateway could not be asked for a ${what}.`)
      return { said: wasCalled ? 'unknown' : 'not-called', error: error instanceof Error ? error.message : String(error), retryMs }
    }
  }
}

/** What who pays again asks about at once; of a requested payment the first who pays is just asking. */
const asksAgain: ReadonlySet<Payment['state']> = new Set(['unknown', 'pending'])

function dueOf ({ order, payment }: { order: Order, payment: Payment }): DuePayment {
  return { ...payment, customer: order.customer, tries: 0, ageMs: Date.now() - payment.requestedAt.getTime() }
}

/** By chance up to half as long again, so that many do not ask in step. */
function pauseMs (tries: number): number {
  return Math.round(Math.min(pauseMinMs * 2 ** Math.min(tries, 10), pauseMaxMs) * (1 + Math.random() / 2))
}
