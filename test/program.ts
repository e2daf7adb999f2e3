import { execFile, spawn, type ChildProcess, type ExecFileOptions, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** A program in a process of its own, whose output a test reads. */
export interface Program {
  child: ChildProcess
  /** Everything that it has printed. */
  lines: string[]
  /** Resolves with the first matching line, past or future; rejects if the program ends without one. */
  line (pattern: RegExp): Promise<string>
  exited: Promise<[code: number | null, signal: NodeJS.Signals | null]>
}

interface Options extends SpawnOptions {
  /** The signal that ends it with the test. Default: SIGKILL. */
  endBy?: NodeJS.Signals
}

export function startProgram (t: { teardown (end: () => Promise<unknown>): unknown }, [file, ...args]: readonly [string, ...string[]], { endBy = 'SIGKILL', ...options }: Options = {}): Program {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
  const lines: string[] = []
  const looking = new Set<(line: string) => void>()
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue
    createInterface({ input: stream }).on('line', line => {
      lines.push(line)
      for (const look of looking) look(line)
    })
  }
  // 'close' comes after the end of its output.
  const exited = once(child, 'close') as Program['exited']
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill(endBy)
    await exited
  })
  return {
    child,
    lines,
    exited,
    line: async pattern => await new Promise((resolve, reject) => {
      const look = (line: string): void => { if (pattern.test(line)) resolve(line) }
      lines.forEach(look)
      looking.add(look)
      void exited.then(ended => reject(new Error(`The program ended with ${String(ended)} and without a line like ${pattern}:\n${lines.join('\n')}`)), reject)
    })
  }
}

/** Runs a program to its end, whatever its exit code is. */
export async function runProgram (
  [file, ...args]: readonly [string, ...string[]], options: ExecFileOptions = {}
): Promise<{ code: number | string, stdout: string, stderr: string }> {
  return await new Promise(resolve => {
    execFile(file, args, { ...options, encoding: 'utf8' }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code ?? String(error.signal), stdout, stderr })
    })
  })
}
