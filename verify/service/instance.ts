import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { UserError } from '../../user-error.ts'
import { now, type Time } from '../history.ts'
import type { Instance, Run, Target } from '../target.ts'
import type { Clock } from './clock.ts'

export interface Stopped {
  /** When the signal was sent. */
  readonly at: Time
  /** null if `signal` ended it. */
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  /** Time from the signal to the exit, in ms. */
  readonly drainMs: number
  /** The phases of the stop, if the target can read them. */
  readonly phases: ReturnType<NonNullable<Target['phases']>>
  readonly report: ReturnType<NonNullable<Target['report']>>
  /** How many readiness checks it got meanwhile. */
  readonly probes: number
}

interface Options {
  readonly target: Target
  readonly run: Run
  readonly instance: Instance
  /** Time zones; each life of the instance has another one. Default: the machine's. */
  readonly zones?: readonly string[] | undefined
  /** The clock that it uses in place of the machine's. */
  readonly clock?: Clock | undefined
}

interface Life {
  readonly child: ChildProcess
  readonly exited: Promise<Exit>
  /** The position of its first output in the log. */
  readonly logStart: number
  exit?: Exit
}

interface Exit {
  readonly at: Time
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Set if it could not be started. */
  readonly error?: Error
}

const pollMs = 20
/** How much of its output an error quotes, in lines. */
const quotedLines = 15

/**
 * One instance of the service on its port, in one process after another. Each has a process group of its own: a Ctrl-C for the
 * harness does not reach it, and its children end with it.
 */
export class ServiceInstance {
  readonly index: number
  readonly url: string
  /** The file for the output of all its lives. */
  readonly log: string
  readonly clock: Clock | undefined
  readonly #options: Options
  readonly #killNow = (): void => {
    // The process id may belong to another process after the exit.
    if (this.#life !== undefined && this.#life.exit === undefined) killGroup(this.#life.child)
  }

  #life: Life | undefined
  #closed = false
  #lives = 0
  #probes = 0

  constructor (options: Options) {
    const { run, instance } = options
    this.#options = options
    this.index = instance.index
    this.clock = options.clock
    this.url = `http://127.0.0.1:${instance.port}`
    this.log = join(run.directory, `service-${instance.index}.log`)
    process.on('exit', this.#killNow)
  }

  /**
   * Resolves when it is ready.
   *
   * @throws Error with the end of its output, if it ends before that or takes too long; it is killed then
   */
  async start (): Promise<void> {
    if (this.#closed) throw new UserError('The run is over; no instance was started.')
    if (this.#life !== undefined && this.#life.exit === undefined) throw new UserError(`Instance ${this.index} runs already; no other was started.`)
    this.#life = this.#spawn()
    await this.ready()
  }

  /** The same for a running instance. */
  async ready (): Promise<void> {
    const { target, instance } = this.#options
    const { start: limit = 30_000 } = target.limits ?? {}
    const until = now() + limit
    while (this.#alive() && !await this.#isReady()) {
      if (now() > until) {
        await this.close()
        throw new UserError(`The service was not ready within ${limit / 1_000} s, and was killed: GET ${target.readiness} on its port ${instance.port} gave no 2xx. A slower one needs a longer limit: start in the limits of its target.\n${this.#lastWords()}`)
      }
      await delay(pollMs)
    }
  }

  /** Sends the signal, and resolves when the process has exited. A process that hangs is killed, which `signal` shows. */
  async stop (signal: NodeJS.Signals): Promise<Stopped> {
    const { target } = this.#options
    const life = this.#alive()
    const [at, probes] = [now(), this.#probes]
    life.child.kill(signal)
    const limit = setTimeout(killGroup, target.limits?.stop ?? 60_000, life.child)
    const exit = await life.exited
    clearTimeout(limit)
    const printed = readFrom(this.log, life.logStart)
    const report = target.report?.(printed)
    return {
      at,
      exitCode: exit.code,
      signal: exit.signal,
      drainMs: exit.at - at,
      probes: this.#probes - probes,
      phases: target.phases?.(printed),
      // The times are by its own clock, which another fault may have set meanwhile.
      report: report && { ...report, startedAt: this.clock?.trueTime(report.startedAt, [at, exit.at]) ?? report.startedAt }
    }
  }

  /** Sends signals that end nothing: SIGSTOP, SIGCONT. Does nothing if another fault has ended the instance meanwhile. */
  signal (signal: NodeJS.Signals): void {
    if (this.#life?.exit === undefined) this.#life?.child.kill(signal)
  }

  /** Kills the running process; none starts afterwards. */
  async close (): Promise<void> {
    this.#closed = true
    process.off('exit', this.#killNow)
    this.#killNow()
    await this.#life?.exited
  }

  async #isReady (): Promise<boolean> {
    this.#probes++
    return await answers(this.url + this.#options.target.readiness)
  }

  #alive (): Life {
    if (this.#life === undefined) throw new UserError(`Instance ${this.index} of the service was not started.`)
    const { exit } = this.#life
    if (exit === undefined) return this.#life
    if (exit.error !== undefined) throw new UserError(`The service could not be started: ${exit.error.message}. Mend start() of the target ${this.#options.target.name}.`)
    throw new UserError(`Instance ${this.index} of the service ended by itself, with ${exit.signal ?? exit.code}.\n${this.#lastWords()}`)
  }

  #spawn (): Life {
    const { target, run, instance, zones = [], clock } = this.#options
    const { command: [file, ...args], cwd, env } = target.start(run, instance)
    const zone = zones[this.#lives++ % zones.length]
    const log = openSync(this.log, 'a')
    const logStart = fstatSync(log).size
    const child = spawn(file, args, { cwd, env: { PATH: process.env.PATH, ...zone !== undefined && { TZ: zone }, ...clock?.env, ...env }, stdio: ['ignore', log, log], detached: true })
    closeSync(log)
    const { promise: exited, resolve } = Promise.withResolvers<Exit>()
    const life: Life = { child, exited, logStart }
    const end = (exit: Omit<Exit, 'at'>): void => {
      life.exit = { at: now(), ...exit }
      // Children that it has left behind.
      killGroup(child)
      resolve(life.exit)
    }
    child.once('exit', (code, signal) => end({ code, signal }))
    child.once('error', error => end({ code: null, signal: null, error }))
    return life
  }

  #lastWords (): string {
    const lines = readFrom(this.log, this.#life?.logStart ?? 0).trimEnd().split('\n').slice(-quotedLines)
    return `The end of ${this.log}:\n${lines.map(line => `  ${line}`).join('\n')}`
  }
}

/** Reads a file from a position on, because the part before it may be long. */
function readFrom (path: string, start: number): string {
  const file = openSync(path, 'r')
  const bytes = Buffer.alloc(fstatSync(file).size - start)
  const length = readSync(file, bytes, { position: start })
  closeSync(file)
  return bytes.toString('utf8', 0, length)
}

/** Not fetch, which keeps its connection: the stop under test would have one more to close. */
async function answers (url: string): Promise<boolean> {
  return await new Promise(resolve => {
    const request = get(url, { agent: false, timeout: 1_000 }, response => {
      const { statusCode = 0 } = response.resume()
      resolve(statusCode >= 200 && statusCode < 300)
    })
    request.on('timeout', () => request.destroy(new Error('It took too long.'))).on('error', () => resolve(false))
  })
}

function killGroup (child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    // The process is gone.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}
