import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'

/** All running descendants of this process. */
export function descendantsOf (pid: number): number[] {
  const children = running().filter(({ parent }) => parent === pid).map(child => child.pid)
  return [...children, ...children.flatMap(descendantsOf)]
}

/** Resolves when none of them runs any more. */
export async function gone (pids: readonly number[]): Promise<void> {
  while (running().some(({ pid }) => pids.includes(pid))) await delay(50)
}

function running (): Array<{ pid: number, parent: number }> {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat=,comm='], { encoding: 'utf8' }).trim().split('\n').flatMap(line => {
    const [pid, parent, state = '', command] = line.trim().split(/\s+/)
    // A zombie has exited, and ps itself is about to.
    return state.startsWith('Z') || command === 'ps' ? [] : [{ pid: Number(pid), parent: Number(parent) }]
  })
}
