import type { ChildProcess } from 'node:child_process'
import { closeSync, fstatSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Programs } from './account.ts'

/** A Postgres that was started: it may not be ready, and may still fail. */
export interface Postmaster {
  process: ChildProcess
  /** Whether it accepts connections. */
  isReady (): boolean
  /** The end of its log if it has ended; undefined while it runs. */
  failure (): string | undefined
}

/** Both are the defaults, written down because the service's promises and the verdict of verify rest on them. */
export const durability = { fsync: 'on', synchronous_commit: 'on' }

/**
 * Starts Postgres in a session of its own, which neither Ctrl-C nor a closed terminal reaches. A second server on the same data
 * ends by itself, because of Postgres' own lock file.
 *
 * @param log its output is appended to this file
 */
export function startPostmaster (
  { programs: { postgres, account }, data, log, args = [] }: { programs: Programs, data: string, log: string, args?: readonly string[] }
): Postmaster {
  const output = openSync(log, 'a')
  const logStart = fstatSync(output).size
  const child = account.start(postgres, ['-D', data, ...args], { stdio: ['ignore', output, output], detached: true })
  closeSync(output)

  let failure: string | undefined
  child.once('error', error => { failure = error.message })
  child.once('exit', (code, signal) => {
    const words = read(log).subarray(logStart).toString().trim()
    failure = words.split('\n').slice(-8).join('\n') || `it ended with ${signal ?? `code ${code}`} and wrote nothing`
  })
  return {
    process: child,
    isReady: () => {
      // A killed server leaves its file behind, so the number counts as well as the state.
      const lines = read(lockFileOf(data)).toString().split('\n')
      return Number(lines[0]) === child.pid && lines[7]?.trim() === 'ready'
    },
    failure: () => failure
  }
}

/** Whether a start that failed so may succeed a moment later: another one was faster, or a killed server left something in the way. */
export function isPassing (failure: string): boolean {
  return /lock file ".*" (already exists|is empty)/.test(failure) || failure.includes('pre-existing shared memory block')
}

/** The process that has these data, even if it does not listen yet or any more. */
export function postmasterOf (data: string): number | undefined {
  const pid = pidIn(lockFileOf(data))
  return pid !== undefined && isServer(data, pid) ? pid : undefined
}

/**
 * Removes the lock files of a killed server if another process has its number now: a later process, or a zombie that nobody
 * reaps, as in a container without an init. Postgres sees only that the number is in use, and would refuse to start.
 */
export function removeStaleLocks (data: string, socketLock: string): void {
  for (const file of [lockFileOf(data), socketLock]) {
    const pid = pidIn(file)
    if (pid !== undefined && !isServer(data, pid)) rmSync(file, { force: true })
  }
}

/** Whether there was such a process. */
export function signalProcess (pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal)
  } catch (error) {
    // It belongs to another account.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** Its first line is the process id, its eighth the state. Postgres removes it last. */
function lockFileOf (data: string): string {
  return join(data, 'postmaster.pid')
}

function pidIn (lockFile: string): number | undefined {
  const pid = parseInt(read(lockFile).toString())
  return Number.isNaN(pid) ? undefined : pid
}

/** Whether that process may be a server on these data. Only Linux tells more than that the process exists. */
function isServer (data: string, pid: number): boolean {
  if (!signalProcess(pid, 0)) return false
  if (process.platform !== 'linux') return true
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0]
    if (state === 'Z') return false
    const found = statSync(`/proc/${pid}/cwd`)
    const folder = statSync(data)
    return found.dev === folder.dev && found.ino === folder.ino
  } catch {
    return true
  }
}

/** Empty if there is no such file. */
function read (file: string): Buffer {
  try {
    return readFileSync(file)
  } catch {
    return Buffer.alloc(0)
  }
}
