import { execFile, spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Exit, LeftBehind } from './account.ts'
import type { Settings } from './options.ts'

/** How many of its last lines of output are kept. */
const lastLines = 20
/** How long processes that end with the service have to be gone, and its output to be read. */
const settleMs = 1_000
const lookMs = 50

/** The service under test: a process in a group of its own, so that the kit can find and end all that it starts. */
export class Service {
  /** The last lines that the service printed, on stdout and stderr. */
  readonly output: string[] = []
  readonly exited: Promise<Pick<Exit, 'code' | 'signal'>>
  /** Resolves if the service cannot be started. */
  readonly failed: Promise<Error>
  readonly command: readonly string[]
  readonly #child: ChildProcessByStdio<null, Readable, Readable>
  readonly #outputEnded: Promise<unknown>
  readonly #onLine = new Set<(line: string) => void>()

  constructor ({ command, cwd, env }: Pick<Settings, 'command' | 'cwd' | 'env'>) {
    this.command = command
    const [program, ...args] = command
    const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    this.#child = child
    this.failed = new Promise(resolve => child.once('error', resolve))
    this.exited = new Promise(resolve => child.once('exit', (code, signal) => resolve({ code, signal })))
    this.#outputEnded = new Promise(resolve => child.once('close', resolve))
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on('line', line => {
        this.output.push(line)
        if (this.output.length > lastLines) this.output.shift()
        for (const look of this.#onLine) look(line)
      })
    }
    // A test runner that gives up calls process.exit(), and would leave a group of its own running.
    process.once('exit', this.#killGroup)
  }

  /** Resolves with the first line that matches. */
  line (pattern: RegExp): Promise<RegExpMatchArray> {
    return new Promise(resolve => {
      const look = (line: string): void => {
        const match = line.match(pattern)
        if (match === null) return
        this.#onLine.delete(look)
        resolve(match)
      }
      this.#onLine.add(look)
    })
  }

  /** Sends the signal to the process that was started, and to no other of its group. */
  signal (signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** What still runs of its group, and whether something still accepts on its port, a second after the exit. */
  async leftBehind (url: URL): Promise<LeftBehind> {
    const until = performance.now() + settleMs
    for (;;) {
      const listening = await isListening(url) ? url.origin : null
      const processes = this.#groupIsAlive() ? await this.#group() : []
      if ((listening === null && processes.length === 0) || performance.now() >= until) return { processes, listening }
      await delay(lookMs)
    }
  }

  /** Waits, after the exit, for its last lines. A process that left the group may hold the output open for longer. */
  async outputRead (): Promise<void> {
    await Promise.race([this.#outputEnded, delay(settleMs, undefined, { ref: false })])
  }

  /** Kills what is left of the group. */
  async end (): Promise<void> {
    this.#killGroup()
    process.off('exit', this.#killGroup)
    await this.outputRead()
    this.#child.stdout.destroy()
    this.#child.stderr.destroy()
  }

  readonly #killGroup = (): void => {
    if (this.#groupIsAlive()) this.#signalGroup('SIGKILL')
  }

  #groupIsAlive (): boolean {
    return this.#signalGroup(0)
  }

  #signalGroup (signal: NodeJS.Signals | 0): boolean {
    const { pid } = this.#child
    if (pid === undefined) return false
    try {
      return process.kill(-pid, signal)
    } catch {
      return false
    }
  }

  async #group (): Promise<LeftBehind['processes']> {
    const pid = this.#child.pid ?? 0
    try {
      const { stdout } = await promisify(execFile)('ps', ['-A', '-o', 'pid=,pgid=,stat=,args='])
      return stdout.split('\n')
        .map(line => line.trim().split(/\s+/))
        // Z: a zombie, which has ended and was not reaped.
        .filter(([, group, state]) => group === String(pid) && state?.startsWith('Z') === false)
        .map(([pid, , , ...command]) => ({ pid: Number(pid), command: command.join(' ') }))
    } catch {
      // Slim images have no ps.
      return [{ pid, command: 'a process of this group (install `ps` to have it named)' }]
    }
  }
}

/** Whether a connection to the host and port of the URL is accepted. */
export function isListening ({ hostname, port }: URL): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || 80 })
    const tell = (accepted: boolean): void => {
      socket.destroy()
      resolve(accepted)
    }
    socket.once('connect', () => tell(true)).once('error', () => tell(false))
    // With a full accept queue the kernel does not answer at all.
    socket.setTimeout(settleMs, () => tell(false))
  })
}
