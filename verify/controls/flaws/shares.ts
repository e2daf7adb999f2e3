import type { Flaw, Setting } from './flaw.ts'

export type ShareName = keyof typeof shares

/** Runs with several flaws. In each, a customer has some hundred requests of its own. */
export const shares = {
  answers: { scenario: 'term', duration: 5_000, rate: 350, mix: { read: 30, list: 20, replay: 40, transition: 30 } },
  changes: { scenario: 'term', duration: 5_000, rate: 350, mix: { transition: 30, precondition: 30, reuse: 15, fulfil: 10, replay: 15, scarce: 40, price: 5 } }
} as const satisfies Record<string, Setting>

const regularCount = 4
const guestCount = 16

/** The one whom a flaw of a share is broken for. The customers are those of ../../load/plan.ts. */
export function customerOf (flaw: Flaw, among: readonly Flaw[], seed: number): string {
  if (!('share' in flaw)) throw new Error(`${flaw.name} has a run of its own, and is broken for everybody.`)
  const peers = among.filter(other => 'share' in other && other.share === flaw.share && other.of === flaw.of)
  const names = flaw.of === 'regulars' ? numbered(`customer-${seed}`, regularCount) : numbered(`customer-${seed}-1`, guestCount)
  const name = names[peers.indexOf(flaw)]
  if (name === undefined) throw new Error(`The run "${flaw.share}" has ${peers.length} flaws for ${names.length} ${flaw.of}. Nothing was started; move some to another run.`)
  return name
}

function numbered (prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i + 1}`)
}
