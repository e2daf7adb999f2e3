import type { Progress } from '../../verify/progress.ts'
import type { RunOptions } from '../../verify/run.ts'
import type { Invariant, Verdict } from '../../verify/verdict.ts'

/** Something that is broken on purpose, and that the proof must find. A proof that never finds anything proves nothing. */
export interface Control {
  readonly name: string
  /** What is broken, in a few words. */
  readonly broken: string
  /** The promise that it breaks. The consequences may break others, too. */
  readonly expected: Invariant
  /** It records what it does: a saboteur that did nothing cannot break anything. */
  readonly isSaboteur?: true
  /** It takes long, and a recorded control proves the same about the judge. So it runs only by its name, and not with all. */
  readonly byName?: true
}

/** One run, and the controls in it. */
export interface Trial {
  readonly name: string
  readonly controls: readonly Control[]
  /** The name of the control. */
  verdict: (options: TrialOptions) => Promise<Verdict>
  /** If several controls share the run: the customer that it is broken for; only findings about that customer count. Null or absent: everybody. */
  readonly customerOf?: (control: Control, seed: number) => string | null
}

export interface TrialOptions extends Pick<RunOptions, 'home'> {
  /** The seed of load and faults. */
  readonly seed: number
  /** Absolute path of a folder that is empty or does not exist yet. */
  readonly directory: string
  readonly progress: Pick<Progress, 'line' | 'state'>
}
