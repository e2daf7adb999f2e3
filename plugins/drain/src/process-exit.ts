import { readFileSync, readdirSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { now, sleep } from './timers.ts'

/** How often to look whether libuv's threads are free. */
const lookMs = 20
/** V8's own threads work for a moment now and then. */
const busyMs = 100
/** The threads of this process, on Linux. */
const tasks = '/proc/self/task'
const libuvNamesItsThreads = process.versions.uv.localeCompare('1.50.0', 'en', { numeric: true }) >= 0

/**
 * Ends the process.
 *
 * `process.exit()` waits for libuv's threads, however long they take: a hash under way, a name server that does not
 * answer, a file system that is gone. After `deadline` this function waits no longer: it replaces the process by one that
 * only exits with the code. Node before 22.15 cannot do that; there SIGKILL ends the process, and the reported code is
 * lost.
 *
 * @param deadline performance.now() until which busy threads may finish
 */
export async function endProcess (code: number, deadline: number): Promise<never> {
  const until = Math.max(deadline, now() + busyMs)
  let busy = busyThreads()
  while (busy.size > 0 && now() < until) {
    await sleep(lookMs)
    // Only a thread that works at every one of the last looks counts: on a busy machine V8's threads work in turns.
    const still = busyThreads()
    busy = until - now() < busyMs ? new Set([...busy].filter(thread => still.has(thread))) : still
  }
  if (busy.size > 0) process.once('exit', () => { endAtOnce(code) })
  process.exit(code)
}

function endAtOnce (code: number): void {
  const { execve } = process as { execve?: (file: string, args: readonly string[], env?: NodeJS.ProcessEnv) => never }
  try {
    execve?.(process.execPath, [process.execPath, '--eval', `process.exit(${code})`], { PATH: process.env['PATH'] })
  } catch {
    // This system does not have it.
  }
  process.kill(process.pid, 'SIGKILL')
}

/** Node before 26 lists calls of `fs` and `dns`. The threads show the rest, on a system that shows its threads. */
function busyThreads (): Set<string> {
  // In a worker thread `process.exit()` ends only that thread, and does not wait for libuv's.
  if (!isMainThread) return new Set()
  const calls = process.getActiveResourcesInfo().filter(name => /^(FSReq|GetAddrInfo|GetNameInfo)/.test(name))
  return new Set([...calls, ...workersAtWork()])
}

function workersAtWork (): string[] {
  if (process.platform !== 'linux') return []
  try {
    return readdirSync(tasks).filter(thread => Number(thread) !== process.pid && isAtWork(thread))
  } catch {
    return []
  }
}

/** On Linux: reads the state of a thread from proc_pid_stat(5). A libuv thread is idle if it sleeps in a futex. */
function isAtWork (thread: string): boolean {
  const stat = readFileSync(`${tasks}/${thread}/stat`, 'utf8')
  // `process.exit()` does not wait for worker threads, whatever they compute. Before libuv 1.50 they look like all others.
  const isOfLibuv = stat.includes('(libuv-worker)')
  if (libuvNamesItsThreads && !isOfLibuv) return false
  // The name in brackets may contain anything, brackets included.
  const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3)
  if (/^[RD]$/.test(state)) return true
  if (!isOfLibuv) return false
  const sleepsIn = readFileSync(`${tasks}/${thread}/wchan`, 'utf8')
  // Some kernels do not tell: '0', or nothing.
  return /^[a-z]/i.test(sleepsIn) && !sleepsIn.startsWith('futex')
}
