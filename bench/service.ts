import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A program in a process of its own that listens and has sent its port by IPC. */
export interface Service {
  readonly child: ChildProcess
  readonly port: number
}

interface Launch {
  /** The CPU that it may use; any CPU if there is no `taskset`. */
  readonly core?: number | undefined
  /** A file descriptor that it gets as its 4. */
  readonly journal?: number
}

export async function startService (program: URL, args: string[], { core, journal }: Launch = {}): Promise<Service> {
  const command = [process.execPath, fileURLToPath(program), ...args]
  const [file = '', ...rest] = core === undefined ? command : ['taskset', '-c', String(core), ...command]
  const child = spawn(file, rest, { stdio: ['ignore', 'ignore', 'inherit', 'ipc', journal ?? 'ignore'] })
  const [message] = await Promise.race([
    once(child, 'message') as Promise<[{ port: number }]>,
    once(child, 'exit').then(([code]) => { throw new Error(`${command.join(' ')} has exited with ${String(code)} before it listened: nothing was measured`) })
  ])
  return { child, port: message.port }
}
