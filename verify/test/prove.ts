import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { Verdict } from '../verdict.ts'

export interface Proved {
  readonly code: number | null
  readonly verdict: Verdict
  readonly printed: string
}

/** Runs verify with a seed and a folder of the test's own. @param command what starts it; default: this repository's, as installed elsewhere */
export async function prove (t: Test, args: readonly string[], { cwd, command: [file, ...own] = [process.execPath, join(import.meta.dirname, '../bin.ts')] }: { cwd?: string, command?: readonly [string, ...string[]] } = {}): Promise<Proved> {
  const out = join(t.testdir(), 'out')
  const child = spawn(file, [...own, '--seed', '1', '--out', out, ...args], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number | null]>])
  return { code, verdict: JSON.parse(readFileSync(join(out, 'verdict.json'), 'utf8')) as Verdict, printed }
}
