import { join } from 'node:path'
import type { Progress } from '../progress.ts'
import type { Verdict } from '../verdict.ts'
import type { Control } from './control.ts'

interface Options {
  readonly seed: number
  /** Absolute path of a folder that is empty, or not there yet. Each control has its own in it. */
  readonly directory: string
  readonly progress: Progress
}

/**
 * Whether the proof finds what is broken on purpose, and says so.
 *
 * @returns the exit code: 0 each was caught by the promise that it breaks, 1 one was not
 */
export async function proveControls (controls: readonly Control[], { seed, directory, progress }: Options): Promise<0 | 1> {
  const rows: string[][] = []
  const missed: string[] = []
  for (const { name, broken, expected, verdict: verdictOf } of controls) {
    progress.line(`${name}: ${broken}. It should break: ${expected}.`)
    const verdict = await verdictOf({ seed, directory: join(directory, name), progress })
    const isCaught = verdict.verdict === 'broken' && verdict[expected] > 0
    if (!isCaught) missed.push(name)
    rows.push([name, broken, expected, isCaught ? 'caught' : 'NOT CAUGHT', brokenIn(verdict)])
  }
  progress.end('\n' + table([['control', 'what is broken', 'must break', '', 'broken'], ...rows]))
  progress.end('\n' + (missed.length === 0
    ? `Every control was caught: ${controls.length} of ${controls.length}. Seed ${seed}.`
    : `${missed.length === 1 ? 'The control was' : 'These controls were'} not caught: ${missed.join(', ')}. The proof is worth nothing until the harness finds what is broken there. Seed ${seed}; what was asked and answered is in ${directory}.`))
  return missed.length === 0 ? 0 : 1
}

/** Each promise that was broken, and how often. */
function brokenIn ({ verdict, checked }: Verdict): string {
  return checked.flatMap(({ invariant, broken }) => broken > 0 ? `${invariant} ${broken}` : []).join(', ') || `nothing: ${verdict}`
}

function table (rows: readonly string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0))) ?? []
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}
