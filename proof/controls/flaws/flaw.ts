import type { RunOptions } from '../../../verify/run.ts'
import type { Target } from '../../../verify/target.ts'
import type { Control } from '../control.ts'
import type { ShareName } from './shares.ts'

/** The settings of a run that shows the flaw; as short as possible. */
export type Setting = Pick<RunOptions, 'scenario' | 'duration'> & Partial<Pick<RunOptions, 'rate' | 'mix' | 'rest' | 'coda' | 'restLimitMs' | 'env'>>

/** Something broken in a running service. */
export type Flaw = Control & {
  /** @param customer the customer that it is broken for; null: everybody */
  readonly break: (target: Target, customer: string | null) => Target
} & (OwnRun | SharedRun)

interface OwnRun { readonly setting: Setting }

/**
 * Other flaws share the run. `guests`, `regulars`: it is broken for one customer of these, and only findings about that
 * customer count; event streams belong to the regular customers. `everybody`: it cannot be broken for one customer alone, so
 * no other flaw of the run may break the same promise.
 */
interface SharedRun {
  readonly share: ShareName
  readonly of: 'regulars' | 'guests' | 'everybody'
}

/** The usual run of a flaw that needs only some seconds of load and a few stops: the first stop may hit a process that has just started. */
export const aStop: Setting = { scenario: 'term', duration: 6_000, rest: 500 }
