import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Home } from '../../verify/home.ts'
import type { Progress } from '../../verify/progress.ts'
import type { Verdict } from '../../verify/verdict.ts'
import type { Control, Trial } from './control.ts'

interface Options {
  readonly seed: number
  /** Absolute path of a folder that is empty or does not exist yet. Each run has a folder of its own in it. */
  readonly directory: string
  readonly progress: Progress
  readonly home?: Home
  /** Concurrent runs. Each is two processes and a Postgres, which wait more than they compute. Default 3. */
  readonly atOnce?: number
}

export interface Proved {
  readonly control: Control
  readonly isCaught: boolean
  /** The folder of its run. */
  readonly verdict: Verdict
}

/**
 * Checks that the proof finds what is broken on purpose, and reports it.
 *
 * @returns for each control, whether the promise that it breaks caught it
 * @throws Error if a run failed, without waiting for the others
 */
export async function proveControls (trials: readonly Trial[], { seed, directory, progress, home, atOnce = 3 }: Options): Promise<Proved[]> {
  const verdicts = new Map<Trial, Verdict>()
  const left = trials.values()
  async function work (): Promise<void> {
    for (const trial of left) {
      const { name, controls } = trial
      progress.line(`${name}: ${controls.map(({ broken, expected }) => `${broken}. It should break: ${expected}.`).join(' ')}`)
      verdicts.set(trial, await trial.verdict({
        seed,
        home,
        directory: join(directory, name),
        progress: { line: text => progress.line(`${name}: ${text}`), state: text => progress.state(`${name}: ${text}`) }
      }))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))

  const rows: string[][] = []
  const proved: Proved[] = []
  for (const trial of trials) {
    const verdict = verdicts.get(trial)
    if (verdict === undefined) continue
    for (const control of trial.controls) {
      const isCaught = catches(trial, control, verdict, seed)
      proved.push({ control, isCaught, verdict })
      const why = isCaught || control.isSaboteur !== true || hasActed(join(directory, trial.name), control) ? '' : ' (it did nothing)'
      rows.push([control.name, control.broken, control.expected, isCaught ? 'caught' : `NOT CAUGHT${why}`, brokenIn(verdict)])
    }
  }
  const missed = proved.flatMap(({ control: { name }, isCaught }) => isCaught ? [] : [name])
  progress.end('\n' + table([['control', 'what is broken', 'must break', '', 'broken in its run'], ...rows]))
  progress.end('\n' + (missed.length === 0
    ? `Every control was caught: ${proved.length} of ${proved.length}. Seed ${seed}.`
    : `${missed.length === 1 ? 'The control was' : 'These controls were'} not caught: ${missed.join(', ')}. The proof is worth nothing until the harness finds what is broken there. Seed ${seed}; what was asked and answered is in ${directory}.`))
  return proved
}

/** If several controls share a run, only findings about a control's own customer count for it. */
function catches ({ customerOf }: Trial, control: Control, { verdict, checked, counterexamples }: Verdict, seed: number): boolean {
  if (verdict !== 'broken') return false
  const { expected } = control
  const own = customerOf?.(control, seed) ?? null
  return own === null
    ? checked.some(({ invariant, broken }) => invariant === expected && broken > 0)
    : counterexamples.some(({ invariant, customer }) => invariant === expected && customer === own)
}

function hasActed (directory: string, { name }: Control): boolean {
  const file = join(directory, 'sabotage.jsonl')
  return existsSync(file) && readFileSync(file, 'utf8').includes(JSON.stringify({ saboteur: name }).slice(0, -1))
}

/** How often each promise was broken. */
function brokenIn ({ verdict, checked }: Verdict): string {
  return checked.flatMap(({ invariant, broken }) => broken > 0 ? `${invariant} ${broken}` : []).join(', ') || `nothing: ${verdict}`
}

function table (rows: readonly string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0))) ?? []
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}
