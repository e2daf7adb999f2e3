import { now } from '../history.ts'
import type { Decision } from './call-faults.ts'
import type { Known, Ledger, LedgerCharge, LedgerRefund } from './ledger.ts'

export type ChargeAsked = Pick<LedgerCharge, 'id' | 'order' | 'customer' | 'amount' | 'currency' | 'capture'>
export type RefundAsked = Pick<LedgerRefund, 'id' | 'charge' | 'amount' | 'currency'>

/** The outcome of a call. `conflict`: the id is known with other contents. `refused`: its state does not allow that. `none`: there is none. */
export type Done<Entry> = { readonly is: 'done', readonly entry: Entry } | { readonly is: 'refused', readonly entry: Entry } | { readonly is: 'conflict' | 'none' }

interface Options {
  readonly ledger: Ledger
  readonly keysKeptMs: number
  /** Called for each change when it is on disk. */
  readonly onChange: (entry: LedgerCharge | LedgerRefund) => void
}

/** The faultless bank. It charges each id once, as long as it remembers the id. */
export class Bank {
  readonly #options: Options

  constructor (options: Options) {
    this.#options = options
  }

  /** @param decide asked once for each charge that is made */
  charge (asked: ChargeAsked, decide: () => Decision): Done<LedgerCharge> {
    const known = this.#remembered(this.#options.ledger.charge(asked.id))
    if (known !== undefined) return isSame(known, asked) ? { is: 'done', entry: known } : { is: 'conflict' }
    const decision = decide()
    const made = { ...asked, reference: `ch_${crypto.randomUUID()}`, captured: 0, refunded: 0 }
    if (decision === 'pending') return this.#write({ ...made, state: 'pending' })
    return this.#write(decision === 'declined' ? declined(made) : taken(made))
  }

  capture (id: string, amount: number): Done<LedgerCharge> {
    const { entry } = this.#options.ledger.charge(id) ?? {}
    if (entry === undefined) return { is: 'none' }
    if (entry.state === 'charged') return { is: entry.captured === amount ? 'done' : 'refused', entry }
    if (entry.state !== 'authorised' || amount > entry.amount) return { is: 'refused', entry }
    return this.#write({ ...entry, state: 'charged', captured: amount })
  }

  void (id: string): Done<LedgerCharge> {
    const { entry } = this.#options.ledger.charge(id) ?? {}
    if (entry === undefined) return { is: 'none' }
    if (entry.state === 'voided') return { is: 'done', entry }
    return entry.state === 'authorised' || entry.state === 'pending' ? this.#write({ ...entry, state: 'voided' }) : { is: 'refused', entry }
  }

  /** @param decide asked once for each refund that is made; none is declined */
  refund (asked: RefundAsked, decide: () => Decision): Done<LedgerRefund> {
    const { ledger } = this.#options
    const known = this.#remembered(ledger.refund(asked.id))
    if (known !== undefined) return isSame(known, asked) ? { is: 'done', entry: known } : { is: 'conflict' }
    const { entry: charge } = ledger.charge(asked.charge) ?? {}
    const made = { ...asked, order: charge?.order ?? '', reference: `re_${crypto.randomUUID()}`, ...charge !== undefined && { of: charge.reference } }
    const left = charge?.state === 'charged' && charge.currency === asked.currency ? charge.captured - charge.refunded : 0
    if (charge === undefined || asked.amount > left) return this.#write({ ...made, state: 'failed', reason: 'more-than-captured' })
    // A promised refund is deducted at once, so that another refund cannot promise the same money.
    this.#write({ ...charge, refunded: charge.refunded + asked.amount })
    return this.#write({ ...made, state: decide() === 'pending' ? 'pending' : 'refunded' })
  }

  /** Decides what was pending. */
  settle (id: string, isDeclined: boolean): void {
    const { ledger } = this.#options
    const [charge, refund] = [ledger.charge(id)?.entry, ledger.refund(id)?.entry]
    if (charge?.state === 'pending') this.#write(isDeclined ? declined(charge) : taken(charge))
    if (refund?.state === 'pending') this.#write({ ...refund, state: 'refunded' })
  }

  #remembered<Entry> (known: Known<Entry> | undefined): Entry | undefined {
    return known !== undefined && now() - known.since < this.#options.keysKeptMs ? known.entry : undefined
  }

  #write<Entry extends LedgerCharge | LedgerRefund> (entry: Entry): Done<Entry> {
    this.#options.ledger.write(entry)
    this.#options.onChange(entry)
    return { is: 'done', entry }
  }
}

function taken (charge: Omit<LedgerCharge, 'state'>): LedgerCharge {
  return charge.capture ? { ...charge, state: 'charged', captured: charge.amount } : { ...charge, state: 'authorised' }
}

function declined (charge: Omit<LedgerCharge, 'state'>): LedgerCharge {
  return { ...charge, state: 'declined', reason: 'insufficient-funds' }
}

function isSame (known: LedgerCharge | LedgerRefund, asked: ChargeAsked | RefundAsked): boolean {
  const of: Readonly<Record<string, unknown>> = { ...known }
  return Object.entries(asked).every(([name, value]) => of[name] === value)
}
