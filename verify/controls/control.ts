import type { Progress } from '../progress.ts'
import type { Invariant, Verdict } from '../verdict.ts'

/** Something that is broken on purpose, and that the proof must find. One that finds nothing wrong anywhere proves nothing. */
export interface Control {
  readonly name: string
  /** What is broken, in a few words. */
  readonly broken: string
  /** Which promise that breaks. What follows from it may break others, too. */
  readonly expected: Invariant
  /** Of the broken thing. */
  verdict: (options: ControlOptions) => Promise<Verdict>
}

export interface ControlOptions {
  /** Of load and faults. */
  readonly seed: number
  /** Absolute path of a folder that is empty, or not there yet. */
  readonly directory: string
  readonly progress: Progress
}
