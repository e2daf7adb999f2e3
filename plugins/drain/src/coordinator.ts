import closeWithGrace from 'close-with-grace'
import type { FastifyBaseLogger } from 'fastify'
import { FST_ERR_DRAIN_VERSIONS } from './errors.ts'
import { endTransports } from './last-line.ts'
import { endProcess } from './process-exit.ts'
import type { DrainExitCode } from './report.ts'
import { Signals } from './signals.ts'
import type { OtherListener } from './signals.ts'
import type { StopCause } from './stop.ts'
import { now, turn } from './timers.ts'

/** From harmless to worst. */
const severity: readonly DrainExitCode[] = [0, 21, 20, 1, 22]
const protocolVersion = 2
/** All that close-with-grace listens to by itself. Switched off: only the configured signals may start a stop. */
const notItsOwn = [
  'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV', 'SIGUSR2', 'SIGTERM',
  'uncaughtException', 'unhandledRejection', 'beforeExit'
] as const
const kCoordinator = Symbol.for('fastify-drain')

/** An app of this process. */
export interface Member {
  readonly signals: readonly NodeJS.Signals[]
  readonly log: FastifyBaseLogger
  stop: (cause: StopCause) => Promise<DrainExitCode>
  /** Whether its resources may close: its `onClose` hooks run or have run. */
  quiesced: () => boolean
  /** The code of its last report, after which nothing is left to be cut short. Undefined before. */
  reportedCode: () => DrainExitCode | undefined
  /**
   * Reports at once, because the process ends: by a second signal, or because other code ends it.
   *
   * @returns the exit code of the report
   */
  cutShort: (how: string, escalated: boolean) => DrainExitCode
  /** performance.now() at the deadline of its stop. */
  deadline: () => number
}

export interface Membership {
  /** Stops every app of the process, and then the process. */
  stop: (cause: StopCause) => void
  /** Resolves when every app has reported and the process is about to end; undefined while none stops. */
  readonly reported: Promise<void> | undefined
  /** Whether `onClose` hooks of any app run: one that closes another app would wait for itself. */
  readonly someQuiesced: boolean
  /** Other listeners of the signals that stop this process. */
  otherListeners: () => OtherListener[]
  leave: () => void
}

/** The one piece of process-wide state: signals, uncaught errors and the exit belong to no single app. */
export function join (member: Member): Membership {
  const holder = globalThis as { [kCoordinator]?: Coordinator }
  const coordinator = holder[kCoordinator] ??= new Coordinator(() => { delete holder[kCoordinator] })
  if (coordinator.protocol !== protocolVersion) throw new FST_ERR_DRAIN_VERSIONS(String(coordinator.protocol), String(protocolVersion))
  coordinator.join(member)
  return {
    stop: cause => coordinator.stop(cause),
    get reported () { return coordinator.reported },
    get someQuiesced () { return coordinator.someQuiesced },
    otherListeners: () => coordinator.otherListeners(),
    leave: () => coordinator.leave(member)
  }
}

/** Without a logger an uncaught error must still be printed, as it is without this plugin. */
function logs (log: FastifyBaseLogger): boolean {
  return typeof log.level === 'string' && log.level !== 'silent'
}

class Coordinator {
  readonly protocol = protocolVersion
  readonly #reported: Promise<void>
  #report!: () => void
  readonly #members = new Set<Member>()
  readonly #signals = new Signals(signal => this.stop({ reason: signal }), signal => this.#escalate(signal))
  readonly #gone: () => void
  #grace: ReturnType<typeof closeWithGrace> | undefined
  #cause: StopCause | undefined
  #error: unknown
  /** The exit code of the process, even if other code ends it. */
  #code: DrainExitCode | undefined
  /** All reports are written; only busy threads can delay the exit. */
  #written = false

  constructor (gone: () => void) {
    this.#gone = gone
    this.#reported = new Promise(resolve => { this.#report = resolve })
  }

  join (member: Member): void {
    if (this.#members.size === 0) {
      process.on('uncaughtException', this.#crashed)
      process.on('unhandledRejection', this.#rejected)
      process.on('exit', this.#exiting)
    }
    this.#members.add(member)
    this.#signals.listen(member.signals)
    if (this.#cause === undefined) this.#install(member.log)
    else member.stop(this.#cause)
  }

  leave (member: Member): void {
    if (this.#cause !== undefined || !this.#members.delete(member) || this.#members.size > 0) return
    this.#signals.close()
    process.off('uncaughtException', this.#crashed)
    process.off('unhandledRejection', this.#rejected)
    process.off('exit', this.#exiting)
    this.#grace?.uninstall()
    this.#gone()
  }

  stop (cause: StopCause): void {
    if (this.#cause === undefined) {
      this.#cause = cause
      this.#signals.ignoreHangup()
      this.#grace?.close()
    } else if (cause.error !== undefined) {
      // The apps stop already; the error ends their lame duck.
      for (const member of this.#members) member.stop(cause)
    }
  }

  get reported (): Promise<void> | undefined {
    return this.#cause === undefined ? undefined : this.#reported
  }

  get someQuiesced (): boolean {
    return [...this.#members].some(member => member.quiesced())
  }

  otherListeners (): OtherListener[] {
    return this.#signals.others()
  }

  /**
   * close-with-grace calls `process.exit(0 | 1)`, at once at a second signal or error, and has a timer of its own that
   * skips the cleanup. So it gets no delay, and the signals and errors are handled here: a repeated signal may be the
   * same request to stop, and a second error must not abandon what the stop has promised to finish.
   */
  #install (log: FastifyBaseLogger): void {
    this.#grace?.uninstall()
    this.#grace = closeWithGrace({
      delay: false,
      logger: log,
      skip: [...notItsOwn]
    }, async () => this.#stopAll(this.#cause ?? { reason: 'close' }))
  }

  async #stopAll (cause: StopCause): Promise<void> {
    const codes = await Promise.all([...this.#members].map(member => member.stop(cause)))
    this.#code = this.#worst(codes)
    this.#report()
    // Code that awaits start() or app.close() may still log something.
    await turn()
    const members = [...this.#members]
    const deadline = Math.max(now(), ...members.map(member => member.deadline()))
    await endTransports(members.map(({ log }) => log), deadline)
    this.#written = true
    await endProcess(this.#code, deadline)
  }

  #worst (codes: readonly DrainExitCode[]): DrainExitCode {
    return codes.reduce((a, b) => severity.indexOf(b) > severity.indexOf(a) ? b : a, this.#error === undefined ? 0 : 1)
  }

  #escalate (signal: string): void {
    const unfinished = [...this.#members].filter(member => member.reportedCode() === undefined)
    // Nothing after the last report changes it, but a second signal need not wait for busy threads.
    if (unfinished.length === 0 && !this.#written) return
    if (unfinished.length > 0) this.#code = 22
    for (const member of unfinished) member.cutShort(`a second ${signal} came`, true)
    endProcess(this.#code ?? 0, now())
  }

  /** Other code has called `process.exit()`, during a stop or after its report. */
  readonly #exiting = (code: number): void => {
    if (this.#cause === undefined) return
    if (this.#code === undefined) {
      const how = `process.exit(${code}) was called ${caller()}`
      const members = [...this.#members]
      const reported = members.every(member => member.reportedCode() !== undefined)
      this.#code = this.#worst(members.map(member => member.reportedCode() ?? member.cutShort(how, false)))
      // Its code may stand for a failure that no app knows of. After the last report it changes nothing.
      if (this.#code === 0 && code !== 0 && !reported) return
    }
    process.exitCode = this.#code
  }

  readonly #crashed = (error: unknown, origin: string): void => {
    this.#error ??= error ?? new Error('undefined was thrown')
    const [first] = this.#members
    if (first === undefined || !logs(first.log)) console.error(`${origin}: the process stops`, error)
    else first.log.fatal({ err: error }, `${origin}: the process stops`)
    this.stop({ reason: origin, error: this.#error })
  }

  readonly #rejected = (error: unknown): void => this.#crashed(error, 'unhandledRejection')
}

/** An `exit` listener runs inside of `process.exit()`. */
function caller (): string {
  const frames = new Error('exit').stack?.split('\n').map(line => line.trim()) ?? []
  const exit = frames.findIndex(line => /^at (process\.)?(exit|reallyExit) /.test(line))
  return frames[exit + 1] ?? 'by nobody that could be seen'
}
