import type { RunOptions } from '../../run.ts'
import type { Target } from '../../target.ts'
import type { Control } from '../control.ts'
import type { ShareName } from './shares.ts'

/** What a run takes to show what is broken; as short as it can be. */
export type Setting = Pick<RunOptions, 'scenario' | 'duration'> & Partial<Pick<RunOptions, 'rate' | 'mix' | 'rest' | 'coda' | 'restLimitMs' | 'env'>>

/** Something broken in a service that runs. */
export type Flaw = Control & {
  /** @param customer whom it is broken for; null: everybody */
  readonly break: (target: Target, customer: string | null) => Target
} & (OwnRun | SharedRun)

interface OwnRun { readonly setting: Setting }

/**
 * Others are broken in the same run. `guests`, `regulars`: for one customer of those, and only what is found of that one counts;
 * event streams are the regular customers'. `everybody`: it cannot be for one only. Then no other may break the same promise.
 */
interface SharedRun {
  readonly share: ShareName
  readonly of: 'regulars' | 'guests' | 'everybody'
}

/** The usual run of a flaw that needs no more than some seconds of load and a few stops: the first may meet a process that has just begun. */
export const aStop: Setting = { scenario: 'term', duration: 6_000, rest: 500 }
