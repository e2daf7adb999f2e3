import { setImmediate as turn } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import type { FastifyBaseLogger } from 'fastify'
import { FST_ERR_DRAIN_VERSIONS } from './errors.ts'
import type { DrainExitCode } from './report.ts'
import type { StopCause } from './stop.ts'

/** npm, pnpm and terminals repeat a signal, and mix SIGINT with SIGTERM: within this long of the first it is the same request. */
const BURST_MS = 1_000
/** From the harmless to the worst. */
const SEVERITY: readonly DrainExitCode[] = [0, 21, 20, 1, 22]
const PROTOCOL = 1
/** `beforeExit` as well: a script that builds the app and ends by itself keeps its own exit code. */
const HANDLED_HERE = ['SIGINT', 'SIGTERM', 'uncaughtException', 'unhandledRejection', 'beforeExit'] as const
const kCoordinator = Symbol.for('fastify-drain')

/** An app of this process. */
export interface Member {
  readonly signals: readonly NodeJS.Signals[]
  readonly log: FastifyBaseLogger
  stop: (cause: StopCause) => Promise<DrainExitCode>
  /** Reports at once, as there is no time left. */
  escalate: (signal: string) => void
}

export interface Membership {
  /** Stops every app of the process, and the process. */
  stop: (cause: StopCause) => void
  leave: () => void
}

/** The one piece of process-wide state: signals, uncaught errors and the exit belong to no single app. */
export function join (member: Member): Membership {
  const holder = globalThis as { [kCoordinator]?: Coordinator }
  const coordinator = holder[kCoordinator] ??= new Coordinator(() => { delete holder[kCoordinator] })
  if (coordinator.protocol !== PROTOCOL) throw new FST_ERR_DRAIN_VERSIONS(String(coordinator.protocol), String(PROTOCOL))
  coordinator.join(member)
  return {
    stop: (cause) => coordinator.stop(cause),
    leave: () => coordinator.leave(member)
  }
}

/** Without a logger an uncaught error must not vanish, as it would not without this plugin. */
function logs (log: FastifyBaseLogger): boolean {
  return typeof log.level === 'string' && log.level !== 'silent'
}

class Coordinator {
  readonly protocol = PROTOCOL
  readonly #members = new Set<Member>()
  readonly #signals = new Map<NodeJS.Signals, () => void>()
  readonly #gone: () => void
  #grace: ReturnType<typeof closeWithGrace> | undefined
  #cause: StopCause | undefined
  #error: unknown
  #burst: 'none' | 'under way' | 'over' = 'none'

  constructor (gone: () => void) {
    this.#gone = gone
  }

  join (member: Member): void {
    if (this.#members.size === 0) {
      process.on('uncaughtException', this.#crashed)
      process.on('unhandledRejection', this.#rejected)
    }
    this.#members.add(member)
    for (const signal of member.signals) {
      if (this.#signals.has(signal)) continue
      const listener = (): void => this.#signalled(signal)
      this.#signals.set(signal, listener)
      process.on(signal, listener)
    }
    if (this.#cause === undefined) this.#install(member.log)
    else member.stop(this.#cause)
  }

  leave (member: Member): void {
    if (!this.#members.delete(member) || this.#members.size > 0 || this.#cause !== undefined) return
    for (const [signal, listener] of this.#signals) process.off(signal, listener)
    process.off('uncaughtException', this.#crashed)
    process.off('unhandledRejection', this.#rejected)
    this.#grace?.uninstall()
    this.#gone()
  }

  stop (cause: StopCause): void {
    if (this.#cause === undefined) {
      this.#cause = cause
      this.#grace?.close()
    } else if (cause.error !== undefined) {
      // To those that stop already: no more lame duck.
      for (const member of this.#members) member.stop(cause)
    }
  }

  /**
   * close-with-grace ends what it is given with `process.exit(0 | 1)`, at once at a second signal or error, and has a
   * timer of its own that skips the cleanup. So it gets no delay, and signals and errors are handled here, where a
   * repetition may be the same request and a second error must not abandon what the stop has promised to finish.
   */
  #install (log: FastifyBaseLogger): void {
    this.#grace?.uninstall()
    this.#grace = closeWithGrace({
      delay: false,
      logger: log,
      skip: [...HANDLED_HERE, ...this.#signals.keys()] as NonNullable<closeWithGrace.Options['skip']>,
      onSecondSignal: (signal) => this.#escalate(signal)
    }, async ({ signal }) => {
      this.#cause ??= { reason: signal ?? 'close' }
      await this.#stopAll(this.#cause)
    })
  }

  async #stopAll (cause: StopCause): Promise<void> {
    const codes = await Promise.all([...this.#members].map((member) => member.stop(cause)))
    // Whoever awaits start() may still say something.
    await turn()
    const worst = codes.reduce((a, b) => SEVERITY.indexOf(b) > SEVERITY.indexOf(a) ? b : a, this.#error === undefined ? 0 : 1)
    if (worst !== 0) process.exit(worst)
  }

  #signalled (signal: NodeJS.Signals): void {
    if (this.#burst === 'over') return this.#escalate(signal)
    if (this.#burst === 'under way') return
    this.#burst = 'under way'
    // After a blocked loop the timer fires before signals that have come long ago are read; setImmediate comes after those.
    setTimeout(() => setImmediate(() => { this.#burst = 'over' }), BURST_MS).unref()
    this.stop({ reason: signal })
  }

  #escalate (signal: string): never {
    for (const member of this.#members) member.escalate(signal)
    process.exit(22)
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
