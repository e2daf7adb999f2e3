import { readFileSync } from 'node:fs'
import { sum, type Figures } from './figures.ts'
import type { LoadPhase } from './load.ts'

/** Linux reports CPU time in /proc in this unit, whatever the kernel's own tick. */
const tickMs = 10

interface Processes {
  /** Absent if the load generator talks to Postgres itself. */
  readonly services?: readonly number[]
  readonly load: number
}

interface Reading {
  readonly atMs: number
  readonly service: number | null
  readonly postgres: number
  readonly load: number
}

/** CPU time by process, between the beginning and the end of the measurement. */
export class CpuClock {
  readonly #postmaster: number
  readonly #readings = new Map<number, Partial<Record<LoadPhase, Reading>>>()

  constructor (postmaster: number) {
    this.#postmaster = postmaster
  }

  read (phase: LoadPhase, { services, load }: Processes): void {
    const reading = {
      atMs: performance.now(),
      service: services === undefined ? null : sum(services.map(cpuMsOf)),
      postgres: cpuMsOfFamily(this.#postmaster),
      load: cpuMsOf(load)
    }
    this.#readings.set(load, { ...this.#readings.get(load), [phase]: reading })
  }

  /** In µs. Several load generators begin and end together, so the first one's times serve for the shared processes. */
  perOrder (rate: number): Figures['cpuUs'] {
    const [first, ...others] = [...this.#readings.values()]
    const { measuring: from, measured: to } = first ?? {}
    if (from === undefined || to === undefined) throw new Error('The load generator did not tell when it measured.')
    const orders = rate * (to.atMs - from.atMs) / 1_000
    const perOrder = (ms: number): number => ms * 1_000 / orders
    return {
      service: to.service === null || from.service === null ? null : perOrder(to.service - from.service),
      postgres: perOrder(to.postgres - from.postgres),
      load: perOrder(to.load - from.load + sum(others.map(({ measuring, measured }) => (measured?.load ?? NaN) - (measuring?.load ?? NaN))))
    }
  }
}

/** CPU time of a process with all its threads, in ms; 0 if the process has ended. Linux only. */
function cpuMsOf (pid: number): number {
  const [user = 0, system = 0] = timesOf(pid)
  return (user + system) * tickMs
}

/** The same with its children, ended ones included: a postmaster and its backends. */
function cpuMsOfFamily (pid: number): number {
  const own = sum(timesOf(pid)) * tickMs
  return own + sum(childrenOf(pid).map(cpuMsOf))
}

/** Resident memory of a process, in bytes; NaN if the process has ended. Linux only. */
export function rssBytesOf (pid: number): number {
  return 1_024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/status`))?.[1])
}

/** In ticks: user, system, and the same two of reaped children. proc_pid_stat(5), fields 14 to 17. */
function timesOf (pid: number): number[] {
  // The second field is the program's name in brackets, which may contain anything.
  return read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ').slice(11, 15).map(Number) ?? []
}

function childrenOf (pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(word => word.trim() !== '').map(Number)
}

/** A process that has just ended has no files. */
function read (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
