import { fork } from 'node:child_process'
import { join } from 'node:path'
import type { LoadPhase, LoadResult, LoadSettings } from './load.ts'
import type { OpenLoad, OpenLoadResult } from './open-load.ts'

type OnPhase = (phase: LoadPhase, pid: number) => void

/** Runs the load generator in a process of its own. @throws Error with its output if it fails */
export async function runLoad (settings: LoadSettings, onPhase: OnPhase): Promise<LoadResult> {
  return await runGenerator('load.ts', settings, onPhase)
}

/** The same for the generator of an open load. */
export async function runOpenLoad (load: OpenLoad): Promise<OpenLoadResult> {
  return await runGenerator('open-load.ts', load)
}

async function runGenerator<Result extends object> (
  program: string, settings: LoadSettings | OpenLoad, onPhase: OnPhase = () => {}
): Promise<Result> {
  const child = fork(join(import.meta.dirname, program), { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  let words = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => { words += chunk })
  return await new Promise((resolve, reject) => {
    child.on('message', (message: LoadPhase | Result) => {
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
