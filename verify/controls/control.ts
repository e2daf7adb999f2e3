import type { Progress } from '../progress.ts'
import type { Invariant, Verdict } from '../verdict.ts'

/** Something that is broken on purpose, and that the proof must find. One that finds nothing wrong anywhere proves nothing. */
export interface Control {
  readonly name: string
  /** What is broken, in a few words. */
  readonly broken: string
  /** Which promise that breaks. What follows from it may break others, too. */
  readonly expected: Invariant
  /** It writes down what it does: what did nothing can break nothing. */
  readonly isSaboteur?: true
  /** It takes long, and a recorded one proves the same of the judge: it is run by its name alone, and not with all. */
  readonly byName?: true
}

/** One run, and what is broken in it. */
export interface Trial {
  readonly name: string
  readonly controls: readonly Control[]
  /** Of the broken thing. */
  verdict: (options: TrialOptions) => Promise<Verdict>
  /** Where several are broken at once: the one whom it is broken for, so that only what is found of that one counts. Null, or absent: everybody. */
  readonly customerOf?: (control: Control, seed: number) => string | null
}

export interface TrialOptions {
  /** Of load and faults. */
  readonly seed: number
  /** Absolute path of a folder that is empty, or not there yet. */
  readonly directory: string
  readonly progress: Pick<Progress, 'line' | 'state'>
}
