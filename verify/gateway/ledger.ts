import { closeSync, existsSync, fdatasyncSync, openSync, truncateSync, writeFileSync } from 'node:fs'
import { now, type Time } from '../history.ts'
import { linesOf } from '../lines.ts'

/** A line of the ledger: a charge or a refund from that moment on. A later line with the same reference replaces it. */
export type LedgerLine =
  | { readonly at: Time, readonly charge: LedgerCharge }
  | { readonly at: Time, readonly refund: LedgerRefund }

/** Amounts are in minor units. */
export interface LedgerCharge {
  /** The caller's id of the payment. Two charges have the same id if the gateway had forgotten the first. */
  readonly id: string
  /** The gateway's own id of this charge alone. */
  readonly reference: string
  readonly order: string
  readonly customer: string
  readonly amount: number
  readonly currency: string
  /** false: the charge was only to be authorised. */
  readonly capture: boolean
  readonly state: 'pending' | 'authorised' | 'charged' | 'declined' | 'voided'
  readonly captured: number
  readonly refunded: number
  readonly reason?: string
}

export interface LedgerRefund {
  readonly id: string
  readonly reference: string
  /** The id and the reference of the refunded charge, and its order. */
  readonly charge: string
  readonly of?: string
  readonly order: string
  readonly amount: number
  readonly currency: string
  readonly state: 'pending' | 'refunded' | 'failed'
  readonly reason?: string
}

/** What the gateway has done, on disk before it answers. Append-only. */
export class Ledger {
  readonly #file: number
  readonly #charges = new Map<string, Known<LedgerCharge>>()
  readonly #refunds = new Map<string, Known<LedgerRefund>>()

  /** Reads what an earlier process wrote. @param path absolute; created if missing */
  constructor (path: string) {
    if (existsSync(path)) {
      let whole = 0
      for (const bytes of linesOf(path)) {
        this.#learn(JSON.parse(bytes.toString()) as LedgerLine)
        whole += bytes.length + 1
      }
      // The gateway has told nobody about half a line of a killed process, and the next line must not continue it.
      truncateSync(path, whole)
    }
    this.#file = openSync(path, 'a')
  }

  /** The last charge of an id. */
  charge (id: string): Known<LedgerCharge> | undefined {
    return this.#charges.get(id)
  }

  refund (id: string): Known<LedgerRefund> | undefined {
    return this.#refunds.get(id)
  }

  /** The charges and refunds that are still pending. */
  get pending (): Array<LedgerCharge | LedgerRefund> {
    return [...this.#charges.values(), ...this.#refunds.values()].map(({ entry }) => entry).filter(({ state }) => state === 'pending')
  }

  /** Returns when the disk has it. */
  write (entry: LedgerCharge | LedgerRefund): void {
    const line: LedgerLine = { at: now(), ...'charge' in entry ? { refund: entry } : { charge: entry } }
    writeFileSync(this.#file, JSON.stringify(line) + '\n')
    fdatasyncSync(this.#file)
    this.#learn(line)
  }

  close (): void {
    closeSync(this.#file)
  }

  #learn (line: LedgerLine): void {
    if ('charge' in line) remember(this.#charges, line.charge, line.at)
    else remember(this.#refunds, line.refund, line.at)
  }
}

/** `since`: when it was made. */
export interface Known<Entry> {
  readonly entry: Entry
  readonly since: Time
}

function remember<Entry extends LedgerCharge | LedgerRefund> (known: Map<string, Known<Entry>>, entry: Entry, at: Time): void {
  const before = known.get(entry.id)
  known.set(entry.id, { entry, since: before?.entry.reference === entry.reference ? before.since : at })
}

/** What a process has written up to now. */
export function * ledgerOf (path: string): Generator<LedgerLine> {
  if (!existsSync(path)) return
  for (const bytes of linesOf(path)) yield JSON.parse(bytes.toString()) as LedgerLine
}
