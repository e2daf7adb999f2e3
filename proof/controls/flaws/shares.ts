import type { Flaw, Setting } from './flaw.ts'
import { UserError } from '../../../user-error.ts'

export type ShareName = keyof typeof shares

/** Kinds of arrivals that the flaws of a share do not need, so that there is more of the rest. */
const no = { hot: 0, twin: 0, 'hang-up': 0, 'slow-body': 0, intrude: 0, restock: 0, stock: 0, 'shared-key': 0 }

/**
 * Runs with several flaws. If each is for one customer, that customer has some hundred requests, most of them before the stop or
 * after it: a machine may be slow to restart the service.
 */
export const shares = {
  answers: { scenario: 'term', duration: 4_000, rest: 3_000, coda: 3_000, rate: 300, mix: { ...no, scarce: 0, reuse: 0, precondition: 0, fulfil: 0, price: 0, new: 100, read: 60, list: 30, replay: 50, transition: 90 } },
  changes: { scenario: 'term', duration: 6_000, rest: 3_000, coda: 3_000, rate: 400, mix: { ...no, read: 0, new: 60, transition: 120, precondition: 40, reuse: 15, replay: 25, scarce: 50, price: 5 } },
  all: { scenario: 'term', duration: 4_000, rest: 3_000, mix: { intrude: 10, transition: 40 }, restLimitMs: 5_000 },
  keys: { scenario: 'term', duration: 4_000, rest: 3_000, mix: { 'shared-key': 20, transition: 30 } },
  stock: { scenario: 'term', duration: 4_000, rest: 3_000, mix: { scarce: 40 } }
} as const satisfies Record<string, Setting>

const regularCount = 4
const guestCount = 16

/**
 * The customer that a flaw of a share is broken for; null: everybody. The customers are those of ../../load/plan.ts.
 *
 * @throws Error if a finding could not be assigned to one flaw
 */
export function customerOf (flaw: Flaw, among: readonly Flaw[], seed: number): string | null {
  const peers = among.filter(other => 'share' in other && 'share' in flaw && other.of === flaw.of)
  if (!('share' in flaw) || flaw.of === 'everybody') {
    const other = among.find(({ name, expected }) => name !== flaw.name && expected === flaw.expected)
    if (other !== undefined) throw new UserError(`${flaw.name} and ${other.name} break the same promise in one run, and ${flaw.name} for everybody. Nothing was started; give one of them another run.`)
    return null
  }
  const names = flaw.of === 'regulars' ? numbered(`customer-${seed}`, regularCount) : numbered(`customer-${seed}-1`, guestCount)
  const name = names[peers.indexOf(flaw)]
  if (name === undefined) throw new UserError(`The run "${flaw.share}" has ${peers.length} flaws for ${names.length} ${flaw.of}. Nothing was started; move some to another run.`)
  return name
}

function numbered (prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i + 1}`)
}
