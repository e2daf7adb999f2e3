import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { OpenLoad, OpenLoadResult } from './open-load.ts'

export type { OpenLoadResult }

/** Runs the generator in a process of its own. @throws Error if it ends without a result */
export async function runOpenLoad (load: OpenLoad): Promise<OpenLoadResult> {
  const child = fork(join(import.meta.dirname, 'open-load.ts'), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const result = Promise.race([
    once(child, 'message') as Promise<[OpenLoadResult]>,
    once(child, 'exit').then(([code]) => { throw new Error(`The load generator has ended with ${String(code)}. Nothing was measured.`) })
  ])
  child.send(load)
  const [told] = await result
  return told
}
