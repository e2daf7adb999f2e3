import type { Invariant } from '../verdict.ts'
import { type Exchange, keyOf } from './told.ts'

/** The subject of a finding: an order, by its key or, if that is unknown, by its id; or a product. */
export interface Subject {
  readonly customer?: string
  readonly key?: string
  readonly orderId?: string
  readonly sku?: string
}

export interface Finding {
  readonly invariant: Invariant
  readonly subject: Subject
  readonly says: string
  /** The page that showed it, which cannot be found by key or id. */
  readonly shownBy?: Exchange
}

/** Counts an order once per invariant, however often it was found, in either read. */
export class Findings {
  readonly #subjects = new Map<Invariant, Set<string>>()
  #told: Finding[] = []

  add (invariant: Invariant, subject: Subject, says: string, shownBy?: Exchange): void {
    let subjects = this.#subjects.get(invariant)
    if (!subjects) this.#subjects.set(invariant, subjects = new Set())
    const name = nameOf(subject)
    if (subjects.has(name)) return
    subjects.add(name)
    this.#told.push({ invariant, subject, says, ...shownBy && { shownBy } })
  }

  count (invariant: Invariant): number {
    return this.#subjects.get(invariant)?.size ?? 0
  }

  /** The findings that were added since the last call. */
  take (): Finding[] {
    const taken = this.#told
    this.#told = []
    return taken
  }
}

export function nameOf ({ customer, key, orderId, sku }: Subject): string {
  if (customer !== undefined && key !== undefined) return keyOf({ customer, key })
  return orderId ?? sku ?? ''
}
