import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LineFile } from './lines.ts'
import { count, counted, time } from './report/words.ts'
import type { Progress } from './progress.ts'
import { judgeSaved, readHeader } from './saved.ts'
import type { Verdict } from './verdict.ts'

export interface JudgeAgainOptions {
  /** Absolute path of the folder of a run. */
  readonly directory: string
  /** Counterexamples per invariant in the verdict; `counterexamples.jsonl` has all. */
  readonly tellMax?: number | undefined
  readonly progress: Pick<Progress, 'line' | 'state'>
}

/** Judges the evidence in a folder, and writes `verdict.json`, `counterexamples.jsonl` and `report.html` there. */
export async function judgeAgain ({ directory, tellMax, progress }: JudgeAgainOptions): Promise<Verdict> {
  // The modules that draw take a second to load.
  const { writeReport } = await import('./report/html.ts')
  const { Drawing } = await import('./report/drawing.ts')
  const startedAt = performance.now()
  const drawing = new Drawing(readHeader(directory).faults)
  let parts = 0
  const counterexamples = new LineFile(join(directory, 'counterexamples.jsonl'))
  rmSync(counterexamples.path, { force: true })
  const verdict = await judgeSaved(directory, {
    tellMax,
    onCounterexample: counterexample => counterexamples.append(JSON.stringify(counterexample)),
    onTold (told) {
      drawing.add(told.exchanges)
      parts++
    },
    onProgress: says => progress.state(says)
  })
  counterexamples.flush()
  writeFileSync(join(directory, 'verdict.json'), JSON.stringify(verdict, undefined, 2))
  writeReport({ directory, verdict, drawing })
  const { maxRSS } = process.resourceUsage()
  progress.line(`judged in ${counted(parts, 'part')} and ${time(performance.now() - startedAt)}; this process had ${count(Math.round(maxRSS / 1_024))} MiB at most`)
  return verdict
}
