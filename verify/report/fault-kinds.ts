import type { Fault } from '../verdict.ts'
import { count, counted, time } from './words.ts'

/** The faults of one kind; kinds are in the order of their first appearance. */
export interface FaultKind {
  readonly kind: string
  readonly faults: number
  /** How many hit requests in flight. */
  readonly hits: number
  /** min / median / max from the signal to the exit; undefined if nothing was drained. */
  readonly drain: string | undefined
  readonly exits: string | undefined
  /** median / max from the fault until traffic was possible again. */
  readonly recovery: string | undefined
}

export function faultKinds (faults: readonly Fault[]): FaultKind[] {
  return [...Map.groupBy(faults, ({ kind }) => kind)].map(([kind, of]) => {
    const drained = of.filter(({ drainMs }) => drainMs !== null)
    const drains = sorted(drained.map(({ drainMs }) => drainMs ?? 0))
    const recoveries = sorted(of.flatMap(({ at, recoveredAt }) => recoveredAt === undefined ? [] : [recoveredAt - at]))
    const exits = Map.groupBy(drained, ({ exitCode }) => exitCode === null ? 'by a signal' : String(exitCode))
    return {
      kind,
      faults: of.length,
      hits: of.filter(({ inFlight }) => inFlight > 0).length,
      drain: drains.length === 0 ? undefined : [drains[0], median(drains), drains.at(-1)].map(ms => time(ms ?? 0)).join(' / '),
      exits: drained.length === 0 ? undefined : [...exits].map(([code, { length }]) => `${code} × ${count(length)}`).join(', '),
      recovery: recoveries.length === 0 ? undefined : [median(recoveries), recoveries.at(-1)].map(ms => time(ms ?? 0)).join(' / ')
    }
  })
}

export function inOneLine ({ faults, hits, drain, exits, recovery }: FaultKind): string {
  return [
    `${counted(faults, 'fault')}, ${count(hits)} with requests in flight`,
    ...drain === undefined ? [] : [`drain ${drain} (min / median / max)`],
    ...exits === undefined ? [] : [`exit ${exits}`],
    ...recovery === undefined ? [] : [`well again after ${recovery} (median / max)`]
  ].join('; ')
}

function sorted (values: number[]): number[] {
  return values.sort((a, b) => a - b)
}

function median (values: readonly number[]): number | undefined {
  return values[Math.floor((values.length - 1) / 2)]
}
