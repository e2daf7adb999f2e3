import type { Invariant, Occasion, Verdict } from '../verdict.ts'
import { count } from './words.ts'

/** A promise, and how often it could have been broken. */
export interface Exposed {
  readonly promise: string
  readonly says: string
  /** What was exposed. */
  readonly what: string
  readonly exposed: number
  /** How many are needed for a statement. */
  readonly enough: boolean
  readonly broken: number
  /** What this number would have missed, or why there is no such bound. */
  readonly missed: string
}

interface Row {
  readonly promise: Occasion['promise']
  readonly says: string
  /** The occasion that counts it. */
  readonly what: string
  readonly breaks: readonly Invariant[]
}

const rows: readonly Row[] = [
  { promise: 'P1', says: 'Nothing acknowledged is lost', what: 'orders acknowledged before a fault', breaks: ['lost'] },
  { promise: 'P1', says: 'Nothing in flight is half done', what: 'orders and transitions in flight at a fault', breaks: ['phantom', 'resurrected', 'oversold', 'state'] },
  { promise: 'P2', says: 'Exactly once', what: 'orders sent again after a fault', breaks: ['duplicated', 'replayMismatch'] },
  { promise: 'P3', says: 'Nothing begun is abandoned', what: 'requests that had reached an instance before its signal to stop', breaks: ['abandoned'] },
  { promise: 'P5', says: 'A rolling restart is invisible', what: 'requests while an instance was away', breaks: ['failedRequest'] },
  { promise: 'money', says: 'Payments and refunds happen exactly once', what: 'orders charged after pay answered with an unknown outcome', breaks: ['chargedTwice', 'paidUncharged', 'declinedCharged', 'shippedUnpaid', 'strayCharge', 'wrongRefund', 'unsettled'] },
  { promise: 'P6', says: 'The exit is honest', what: 'requests that a report names and whose answer has its id', breaks: ['falseReport', 'uncleanStop'] }
]

/** Counts only what a fault could have hit: undisturbed requests prove nothing about it. */
export function exposedIn (verdict: Verdict): Exposed[] {
  return rows.flatMap(({ promise, says, what, breaks }) => {
    const occasions = verdict.coverage.filter(occasion => occasion.says === what)
    if (occasions.length === 0) return []
    const skipped = occasions.find(({ skipped }) => skipped !== undefined)?.skipped
    const broken = verdict.checked.reduce((sum, check) => sum + (breaks.includes(check.invariant) ? check.broken : 0), 0)
    // An order that existed before several faults counts once.
    const exposed = what === 'orders acknowledged before a fault' ? verdict.exposed : occasions.reduce((sum, { count }) => sum + count, 0)
    return [{
      promise,
      says,
      what,
      exposed,
      broken,
      enough: skipped !== undefined || occasions.every(({ count, needed }) => count >= needed),
      missed: skipped ?? (broken > 0 ? 'it was found' : exposed < 3 ? 'anything' : `less than 1 in ${count(Math.floor(exposed / 3))}`)
    }]
  })
}
