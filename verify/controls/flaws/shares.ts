import type { Flaw, Setting } from './flaw.ts'

export type ShareName = keyof typeof shares

/** Runs with several flaws, by what their load has more of. */
export const shares = {
  reading: { scenario: 'term', duration: 4_000, rate: 300, mix: { read: 30, list: 25, transition: 15 } },
  placing: { scenario: 'term', duration: 4_000, rate: 300, mix: { replay: 40, transition: 15 } },
  moving: { scenario: 'term', duration: 4_000, rate: 300, mix: { transition: 30, precondition: 30, reuse: 15, fulfil: 10 } },
  tables: { scenario: 'term', duration: 4_000, rate: 300, mix: { transition: 30, replay: 20, scarce: 80, price: 5 } }
} as const satisfies Record<string, Setting>

const regularCount = 4
const guestCount = 16

/** Whom each flaw of a share is broken for. The customers are those of ../../load/plan.ts. */
export function customersOf (flaw: Flaw, among: readonly Flaw[], seed: number): string[] {
  if (!('share' in flaw)) throw new Error(`${flaw.name} has a run of its own, and is broken for everybody.`)
  const peers = among.filter(other => 'share' in other && other.share === flaw.share && other.of === flaw.of)
  const names = flaw.of === 'regulars' ? numbered(`customer-${seed}`, regularCount) : numbered(`customer-${seed}-1`, guestCount)
  const each = Math.floor(names.length / peers.length)
  if (each === 0) throw new Error(`The run "${flaw.share}" has ${peers.length} flaws for ${names.length} ${flaw.of}. Nothing was started; move some to another run.`)
  const place = peers.indexOf(flaw)
  return names.slice(place * each, (place + 1) * each)
}

function numbered (prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}-${i + 1}`)
}
