import { once } from 'node:events'
import { NotCalled, type Charge, type Payments, type Refund } from '../../orders/ports.ts'

/**
 * A gateway that records its calls, and whose outcomes the test plans. As the port demands, it charges an id once, and finds it
 * again.
 */
export class TestGateway implements Payments {
  readonly calls: string[] = []
  /** Each time that it took money, by the payment's id. */
  readonly charged: Array<{ id: string, order: string, amount: bigint }> = []
  readonly refunded: Array<{ id: string, amount: bigint }> = []
  readonly #charges = new Map<string, Charge>()
  readonly #refunds = new Map<string, Refund>()
  /** The outcomes of the calls, one after another; the last one repeats. */
  plan: Array<'charge' | 'decline' | 'pending' | 'charge, no answer' | 'no answer' | 'not reached' | 'hang' | 'another amount'> = ['charge']

  /** `find` waits for this before it answers. */
  holdFind: PromiseWithResolvers<void> | undefined

  #next (): TestGateway['plan'][number] {
    return (this.plan.length > 1 ? this.plan.shift() : this.plan[0]) ?? 'charge'
  }

  charge: Payments['charge'] = async ({ id, order, amount, currency, captures }, { signal }) => {
    this.calls.push('charge')
    const step = this.#next()
    if (step === 'not reached') throw new NotCalled('connect ECONNREFUSED')
    if (step === 'no answer') throw new Error('socket hang up')
    if (step === 'hang') {
      await once(signal, 'abort')
      throw new Error('it did not answer in time')
    }
    const known = this.#charges.get(id)
    if (known !== undefined) return known
    const state = step === 'decline' ? 'declined' : step === 'pending' ? 'pending' : captures ? 'charged' : 'authorised'
    const charge: Charge = { state, reference: `ref-${id}`, amount: step === 'another amount' ? amount + 1n : amount, currency, ...step === 'decline' && { reason: 'card-expired' }, ...step === 'pending' && { actionUrl: 'https://bank.example/confirm' } }
    this.#charges.set(id, charge)
    if (state === 'charged') this.charged.push({ id, order, amount })
    if (step === 'charge, no answer') throw new Error('socket hang up')
    return charge
  }

  capture: Payments['capture'] = async id => {
    this.calls.push('capture')
    const step = this.#next()
    if (step === 'no answer') throw new Error('socket hang up')
    const charge = await this.#move(id, ['authorised'], step === 'decline' ? 'declined' : 'charged')
    if (charge.state === 'charged') this.charged.push({ id, order: '', amount: charge.amount })
    if (step === 'charge, no answer') throw new Error('socket hang up')
    return charge
  }

  void: Payments['void'] = async id => {
    this.calls.push('void')
    return await this.#move(id, ['authorised', 'pending'], 'voided')
  }

  find: Payments['find'] = async id => {
    this.calls.push('find')
    await this.holdFind?.promise
    return this.#charges.get(id)
  }

  refund: Payments['refund'] = async ({ id, amount }) => {
    this.calls.push('refund')
    const step = this.#next()
    if (step === 'no answer') throw new Error('socket hang up')
    const known = this.#refunds.get(id)
    if (known !== undefined) return known
    const refund: Refund = { state: step === 'decline' ? 'failed' : 'refunded', reference: `ref-${id}`, amount }
    this.#refunds.set(id, refund)
    if (refund.state === 'refunded') this.refunded.push({ id, amount })
    if (step === 'charge, no answer') throw new Error('socket hang up')
    return refund
  }

  findRefund: Payments['findRefund'] = async id => {
    this.calls.push('findRefund')
    return this.#refunds.get(id)
  }

  /** Decides the pending charges. */
  decide (state: 'charged' | 'declined'): void {
    for (const [id, charge] of this.#charges) {
      if (charge.state !== 'pending') continue
      this.#charges.set(id, { ...charge, state, actionUrl: undefined })
      if (state === 'charged') this.charged.push({ id, order: '', amount: charge.amount })
    }
  }

  async #move (id: string, from: Array<Charge['state']>, to: Charge['state']): Promise<Charge> {
    const charge = this.#charges.get(id)
    if (charge === undefined) throw new Error(`no charge ${id}`)
    if (!from.includes(charge.state)) return charge
    const moved = { ...charge, state: to }
    this.#charges.set(id, moved)
    return moved
  }
}
