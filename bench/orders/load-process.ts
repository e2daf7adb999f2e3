import { fork } from 'node:child_process'
import { join } from 'node:path'
import type { LoadPhase, LoadResult, LoadSettings } from './load.ts'

/** Runs the load generator in a process of its own. @throws Error with its output if it fails */
export async function runLoad (settings: LoadSettings, onPhase: (phase: LoadPhase, pid: number) => void): Promise<LoadResult> {
  const child = fork(join(import.meta.dirname, 'load.ts'), { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  let words = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => { words += chunk })
  return await new Promise((resolve, reject) => {
    child.on('message', (message: LoadPhase | LoadResult) => {
      if (typeof message === 'string') {
        onPhase(message, child.pid ?? 0)
      } else {
        child.disconnect()
        resolve(message)
      }
    })
    child.once('error', reject)
    child.once('close', code => reject(new Error(`The load generator has ended with ${String(code)}:\n${words.trim()}`)))
    child.send(settings)
  })
}
