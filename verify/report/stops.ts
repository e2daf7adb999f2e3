import type { Time } from '../history.ts'
import type { Fault } from '../verdict.ts'
import { counted, time } from './words.ts'

/** `stopping`: the whole stop of a service that does not report phases. `recovering`: until everything is repaired. */
export const phases = ['draining', 'closing', 'closed', 'stopping', 'recovering'] as const
export type Phase = typeof phases[number]

export interface Band {
  /** The instance that was struck, or otherwise the kind of fault. */
  readonly lane: string
  readonly phase: Phase
  /** s from the beginning. */
  readonly from: number
  readonly to: number
  readonly title: string
}

export interface Mark {
  readonly lane: string
  readonly at: number
  readonly glyph: string
  readonly title: string
}

const glyphs = ['▼', '✕', '◆', '■', '▲', '●', '★']

/** The family of a kind: `brownout` of `brownout:latency`. */
function family ({ kind }: Fault): string {
  return kind.split(':', 1)[0] ?? kind
}

/** The sign of each family of faults, in the order of their first appearance. */
export function glyphsOf (faults: readonly Fault[]): Map<string, string> {
  return new Map([...new Set(faults.map(family))].map((name, i) => [name, glyphs[i % glyphs.length] ?? '']))
}

/** Thins out a list that is too long to draw: every second, third … item. */
export function thinned<T> (things: readonly T[], atMost: number): { readonly drawn: readonly T[], readonly every: number } {
  const every = Math.max(1, Math.ceil(things.length / atMost))
  return { drawn: things.filter((_, i) => i % every === 0), every }
}

export function marks (faults: readonly Fault[], glyphs: ReadonlyMap<string, string>, beginning: Time): Mark[] {
  return faults.map(fault => ({
    lane: laneOf(fault),
    at: (fault.at - beginning) / 1_000,
    glyph: glyphs.get(family(fault)) ?? '',
    title: `${fault.kind}, ${counted(fault.inFlight, 'request')} in flight`
  }))
}

export function bands (faults: readonly Fault[], beginning: Time): Band[] {
  return faults.flatMap(fault => {
    const end = fault.recoveredAt === undefined ? [] : [{ phase: 'recovering' as const, from: fault.drainMs ?? 0, to: fault.recoveredAt - fault.at }]
    return [...phasesOf(fault), ...end].filter(({ from, to }) => to > from).map(({ phase, from, to }) => ({
      lane: laneOf(fault),
      phase,
      from: (fault.at + from - beginning) / 1_000,
      to: (fault.at + to - beginning) / 1_000,
      title: `${fault.kind}: ${phase} for ${time(to - from)}`
    }))
  })
}

/** The phases of a stop, in ms from its signal. */
export function phasesOf ({ drainMs, phases }: Fault): Array<{ phase: Phase, from: number, to: number }> {
  if (drainMs === null) return []
  if (phases === undefined) return [{ phase: 'stopping', from: 0, to: drainMs }]
  return [
    { phase: 'draining', from: phases.draining, to: phases.closing },
    { phase: 'closing', from: phases.closing, to: phases.closed },
    { phase: 'closed', from: phases.closed, to: drainMs }
  ]
}

function laneOf (fault: Fault): string {
  return fault.instance === undefined ? family(fault) : `instance ${fault.instance}`
}
