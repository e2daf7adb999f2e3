import type { SpawnOptions } from 'node:child_process'
import { join } from 'node:path'
import { startProgram, type Program as Started } from '../program.ts'

/** A program of the tests, in a process of its own, that can really be killed. */
export interface Program {
  pid: number
  line: Started['line']
  /** Ends its standard input, which tells the programs here to finish. */
  finish (): void
  kill (signal: NodeJS.Signals): void
  exit: Promise<{ code: number | null, signal: NodeJS.Signals | null, output: string }>
}

export function start (
  t: { teardown (end: () => Promise<unknown>): unknown }, file: string, args: readonly string[],
  { nodeOptions = [], ...options }: SpawnOptions & { nodeOptions?: readonly string[] } = {}
): Program {
  const { child, line, lines, exited } = startProgram(t, [process.execPath, ...nodeOptions, join(import.meta.dirname, file), ...args], { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
  return {
    pid: child.pid ?? 0,
    line,
    finish: () => { child.stdin?.end() },
    kill: signal => { child.kill(signal) },
    exit: exited.then(([code, signal]) => ({ code, signal, output: lines.map(line => `${line}\n`).join('') }))
  }
}
