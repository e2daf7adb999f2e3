import { spawn, type SpawnOptions } from 'node:child_process'
import { join } from 'node:path'

/** A program of the tests, in a process of its own, that can really be killed. */
export interface Program {
  pid: number
  /** Resolves with the first matching line, past or future; rejects if the program ends without one. */
  line (pattern: RegExp): Promise<string>
  /** Ends its standard input, which tells the programs here to finish. */
  finish (): void
  kill (signal: NodeJS.Signals): void
  exit: Promise<{ code: number | null, signal: NodeJS.Signals | null, output: string }>
}

export function start (
  t: { teardown (end: () => Promise<void>): unknown }, file: string, args: readonly string[],
  { nodeOptions = [], ...options }: SpawnOptions & { nodeOptions?: readonly string[] } = {}
): Program {
  const child = spawn(process.execPath, [...nodeOptions, join(import.meta.dirname, file), ...args],
    { ...options, stdio: ['pipe', 'pipe', 'pipe'] })
  let output = ''
  const waiting = new Set<() => void>()
  const take = (chunk: string) => {
    output += chunk
    for (const look of waiting) look()
  }
  child.stdout?.setEncoding('utf8').on('data', take)
  child.stderr?.setEncoding('utf8').on('data', take)

  const exit: Program['exit'] = new Promise(resolve => child.once('close', (code, signal) => resolve({ code, signal, output })))
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await exit
  })

  return {
    pid: child.pid ?? 0,
    exit,
    finish: () => { child.stdin?.end() },
    kill: signal => { child.kill(signal) },
    line: pattern => new Promise((resolve, reject) => {
      const look = () => {
        const found = output.split('\n').slice(0, -1).find(line => pattern.test(line))
        if (found === undefined) return
        waiting.delete(look)
        resolve(found)
      }
      waiting.add(look)
      look()
      exit.then(() => reject(new Error(`The program ended without a line like ${pattern}:\n${output}`)), reject)
    })
  }
}
