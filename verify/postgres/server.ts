import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { Programs } from '../../postgres/account.ts'
import { durability, isPassing, signalProcess, startPostmaster, type Postmaster } from '../../postgres/postmaster.ts'
import { withClient } from '../../postgres/with-client.ts'
import { UserError } from '../../user-error.ts'

export interface ServerOptions {
  readonly programs: Programs
  /** The data folder, complete. */
  readonly data: string
  /** The port of 127.0.0.1. */
  readonly port: number
  /** The password of its superuser `postgres`. */
  readonly password: string
  /** The output of Postgres is appended to this file. */
  readonly log: string
  readonly settings: Readonly<Record<string, string>>
}

const startLimitMs = 60_000
const pollMs = 10

/** One Postgres with its data folder and its port, in one process after another. */
export class PostgresServer {
  readonly port: number
  readonly data: string
  readonly #options: ServerOptions
  #settings: Readonly<Record<string, string>> = {}
  #postmaster: Postmaster | undefined

  constructor (options: ServerOptions) {
    this.#options = options
    this.port = options.port
    this.data = options.data
  }

  get isRunning (): boolean {
    return this.#running !== undefined
  }

  /** The URL for a client of `database` that reaches this server at `port`, its own or a proxy's. */
  url (database: string, port = this.port): string {
    return `postgresql://postgres:${this.#options.password}@127.0.0.1:${port}/${database}`
  }

  /**
   * Resolves when it accepts connections, after its recovery.
   *
   * @throws Error with the end of its log
   */
  async start (): Promise<void> {
    await this.#writeSettings()
    const until = performance.now() + startLimitMs
    for (;;) {
      const { isReady, failure } = this.#postmaster = startPostmaster(this.#options)
      while (failure() === undefined && !isReady()) {
        if (performance.now() > until) {
          await this.kill()
          throw new UserError(`Postgres took no connection within ${startLimitMs / 1_000} s, and was killed. See ${this.#options.log}.`)
        }
        await delay(pollMs)
      }
      const words = failure()
      if (words === undefined) return
      // The processes of a killed server hold its memory for a moment longer.
      if (!isPassing(words) || performance.now() > until) {
        throw new UserError(`Postgres did not start on ${this.data}:\n${words}\nIts whole log is ${this.#options.log}.`)
      }
      await delay(pollMs)
    }
  }

  /** Fast: ends every session, writes a checkpoint. Immediate: ends at once, and recovers at the next start. */
  async stop (mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#end(() => this.#running?.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT'))
  }

  /** Sends SIGKILL to all its processes. */
  async kill (): Promise<void> {
    await this.#end(() => this.killNow())
  }

  /** The same without waiting, for an exit handler. */
  killNow (): void {
    this.#signal('SIGKILL')
  }

  /** Pauses all its processes. Connections stay open, so its clients wait. */
  pause (): void {
    this.#signal('SIGSTOP')
  }

  /** Resumes it; it does not know that time has passed. */
  wake (): void {
    this.#signal('SIGCONT')
  }

  /** Adds settings. They take effect at once if Postgres can reload them, otherwise at the next start. */
  async configure (settings: Readonly<Record<string, string>>): Promise<void> {
    this.#settings = { ...this.#settings, ...settings }
    await this.#writeSettings()
    this.#running?.kill('SIGHUP')
  }

  /** Runs one statement, or several without values, in a session of its own. */
  async query<Row extends pg.QueryResultRow> (text: string, values?: unknown[], database = 'postgres'): Promise<Row[]> {
    return await this.session(async client => (await client.query<Row>(text, values)).rows, database)
  }

  async session<T> (use: (client: pg.Client) => Promise<T>, database = 'postgres'): Promise<T> {
    return await withClient(this.url(database), use)
  }

  get #running (): ChildProcess | undefined {
    return this.#postmaster?.failure() === undefined ? this.#postmaster?.process : undefined
  }

  #signal (signal: NodeJS.Signals): void {
    if (this.#running?.pid !== undefined) signalServer(this.#running.pid, signal)
  }

  async #end (strike: () => void): Promise<void> {
    if (this.#running === undefined) return
    const exited = once(this.#running, 'exit')
    strike()
    await exited
  }

  /** Writes the whole file, so that settings of a copied folder do not count. */
  async #writeSettings (): Promise<void> {
    const settings = {
      listen_addresses: '127.0.0.1',
      port: String(this.port),
      unix_socket_directories: '',
      ...durability,
      // A standby is made while its primary goes on writing, and must still find the log that it missed.
      wal_keep_size: '1GB',
      // It must reconnect soon after a crash: until then no commit is acknowledged. Default 5 s.
      wal_retrieve_retry_interval: '200ms',
      // Not UTC, so that code that is right only in UTC fails; and Debian's clusters are in the machine's zone.
      timezone: 'Asia/Kathmandu',
      log_timezone: 'UTC',
      ...this.#options.settings,
      ...this.#settings
    }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
    await writeFile(join(this.data, 'postgresql.conf'), lines.join(''))
  }
}

/** Signals a postmaster and all its processes; each backend is in a process group of its own. */
export function signalServer (pid: number, signal: NodeJS.Signals): void {
  // The postmaster is stopped first, so that it makes no new ones.
  process.kill(pid, 'SIGSTOP')
  for (const one of [...childrenOf(pid), pid]) signalProcess(one, signal)
}

/** Only Linux shows the children. Elsewhere they notice that the postmaster is gone, and end a moment later. */
function childrenOf (pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(word => word !== '').map(Number)
  } catch {
    return []
  }
}
