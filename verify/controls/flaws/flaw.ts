import type { RunOptions } from '../../run.ts'
import type { Target } from '../../target.ts'
import type { Control } from '../control.ts'
import type { ShareName } from './shares.ts'

/** What a run takes to show what is broken; as short as it can be. */
export type Setting = Pick<RunOptions, 'scenario' | 'duration'> & Partial<Pick<RunOptions, 'rate' | 'restLimitMs'>> & {
  /** Also of what the load is to have. */
  readonly mix?: Readonly<Record<string, number>>
}

/** Something broken in a service that runs. */
export type Flaw = Control & {
  /** @param customer whom it is broken for; null: everybody */
  readonly break: (target: Target, customer: string | null) => Target
} & (OwnRun | SharedRun)

/** It cannot be said whose findings they are, or they are of everybody. */
interface OwnRun { readonly setting: Setting }

/** Others are broken in the same run, each for a customer of its own. */
interface SharedRun {
  readonly share: ShareName
  /** Only the regular customers have event streams. */
  readonly of: 'regulars' | 'guests'
}

/** The usual run of a flaw that needs no more than some seconds of load and a stop. */
export const aStop: Setting = { scenario: 'term', duration: 4_000 }
