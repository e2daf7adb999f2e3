import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { UserError } from '../user-error.ts'
import { now, type Time } from './history.ts'

/** Debian has them in folders that are not on every PATH. */
const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`
const readyLimitMs = 30_000
const pollMs = 20

interface Options {
  /** The name of the program and of its package in Debian and Homebrew. */
  readonly command: string
  readonly args: readonly string[]
  /** Its working folder. Default: this process's own. */
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** The account that it runs as, which may be unable to enter this process's folder. Default: this process's own. */
  readonly owner?: { readonly uid: number, readonly gid: number }
  /** The file for its output. */
  readonly log: string
}

/** Why the program does not run on this machine; undefined if it does. */
export function missing (command: string, asking = '-v'): string | undefined {
  const { error } = spawnSync(command, [asking], { env: { PATH: path } })
  return error && `${command} does not run here (${error.message}). ${install(command)}`
}

function install (command: string): string {
  return `Install it: apt-get install -y ${command} (Debian), brew install ${command} (macOS).`
}

/** A program that runs in the foreground until it is closed. Its process group ends with it and with the harness. */
export class Program {
  readonly #process: ChildProcess
  readonly #options: Options
  readonly #endWithHarness = (): void => this.#kill()

  private constructor (process_: ChildProcess, options: Options) {
    this.#process = process_
    this.#options = options
    process.on('exit', this.#endWithHarness)
  }

  static async start (options: Options): Promise<Program> {
    const { command, args, cwd, env, owner, log } = options
    const output = openSync(log, 'a')
    const child = spawn(command, args, { stdio: ['ignore', output, output], cwd, env: { PATH: path, ...env }, detached: true, ...owner && { ...owner, cwd: '/' } })
    closeSync(output)
    const [spawned] = await Promise.race([once(child, 'spawn').then(() => [true]), once(child, 'error').then(() => [false])])
    if (spawned !== true) throw new UserError(`${command} was not started, and nothing behind it was asked. ${install(command)}`)
    return new Program(child, options)
  }

  get pid (): number {
    return this.#process.pid ?? NaN
  }

  /** The end of what it printed. */
  get lastWords (): string {
    const { log } = this.#options
    return `${readFileSync(log, 'utf8').trim().split('\n').slice(-8).join('\n')}\nIts whole log is ${log}.`
  }

  /** Signals the program itself, not its group. Does nothing after its exit. */
  signal (signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  /** Runs a second process of it with these arguments, until that ends. @throws Error with its output */
  tell (...args: string[]): void {
    const { status, stderr } = spawnSync(this.#options.command, args, { env: { PATH: path }, encoding: 'utf8' })
    if (status !== 0) throw new UserError(`${this.#options.command} ${args.join(' ')} failed; what runs goes on as it was.\n${stderr}`)
  }

  /**
   * Resolves with the moment at which the condition holds.
   *
   * @param what completes "haproxy did not …"
   * @throws Error with the end of its log, if it ends before or takes too long
   */
  async until (what: string, isSo: () => Promise<boolean>): Promise<Time> {
    const until = now() + readyLimitMs
    while (!await isSo()) {
      const ended = this.#ended
      if (ended !== null || now() > until) {
        throw new UserError(`${this.#options.command} ${ended === null ? `did not ${what} within ${readyLimitMs / 1_000} s` : `ended with ${ended}`}.\n${this.lastWords}`)
      }
      await delay(pollMs)
    }
    return now()
  }

  /**
   * Kills its process group, or waits until it has obeyed a milder signal.
   *
   * @returns its exit code, or the signal that ended it
   */
  async close (signal?: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    if (this.#ended === null) {
      const exited = once(this.#process, 'exit')
      if (signal === undefined) this.#kill()
      else this.signal(signal)
      await exited
    }
    process.off('exit', this.#endWithHarness)
    return this.#ended
  }

  get #ended (): number | NodeJS.Signals | null {
    return this.#process.exitCode ?? this.#process.signalCode
  }

  #kill (): void {
    // The process id may belong to another process after the exit.
    if (this.#ended === null) process.kill(-this.pid, 'SIGKILL')
  }
}
