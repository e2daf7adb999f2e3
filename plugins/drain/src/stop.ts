import type { FastifyInstance } from 'fastify'
import type { CloseHooks } from './close-hooks.ts'
import { collectGarbage } from './collect-garbage.ts'
import type { Connections } from './connections.ts'
import type { Deadline } from './deadline.ts'
import type { Exchange } from './exchange.ts'
import type { Hooks } from './hooks.ts'
import { lameDuck } from './lame-duck.ts'
import { writeAtExit, writeLastLine } from './last-line.ts'
import type { Listeners } from './listeners.ts'
import type { Settings } from './options.ts'
import { writeReportFile } from './report-file.ts'
import { copy, describeError } from './report.ts'
import type { DrainExitCode, DrainPhase, DrainReport, DrainState } from './report.ts'
import type { Requests } from './requests.ts'
import { activeResources } from './resources.ts'
import { Sweep } from './sweep.ts'
import { clearInterval, now, setImmediate, setInterval, setTimeout, sleep, turn } from './timers.ts'
import type { TrackedWork } from './tracked-work.ts'
import type { WebSockets } from './websockets.ts'

/** The interval at which sockets are checked while closing. */
const sweepMs = 25
/** Once the deadline has passed, `app.close()` still gets this long: pools should close even then. */
const closeMs = 500
/** `onReport` gets no longer than this. */
const reportMs = 1_000
/** How long a stop that begins between `ready()` and `listen()` waits for the `listen()`. */
const listenMs = 100
/** How long a stop waits for `listen()` to end: Fastify looks up the other addresses of `localhost` while it listens on the first. */
const lookupMs = 1_000
/**
 * When only handlers whose clients have gone are left, the garbage collector shows whether they can still answer: first after
 * this time, then after twice as long each time.
 */
const unreachableMs = 100

export interface StopCause {
  readonly reason: string
  /** An uncaught error. There is no lame duck then. */
  readonly error?: unknown
  /** The application has called `app.close()`. There is no lame duck then either. */
  readonly closing?: boolean
}

export interface Parts {
  readonly app: FastifyInstance
  readonly settings: Settings
  readonly deadline: Deadline
  readonly hooks: Hooks
  readonly requests: Requests
  readonly connections: Connections
  readonly listeners: Listeners
  readonly tracked: TrackedWork
  readonly webSockets: WebSockets
  readonly closeHooks: CloseHooks
  /** Fastify's own `app.close()`, which waits for no report. */
  readonly close: () => Promise<void>
  /** Answers a request that has not begun, and makes sure that it never will. */
  readonly refuse: (exchange: Exchange) => void
}

/** One stop, from its cause to its report. */
export class Stop {
  state: DrainState = 'starting'
  /** Resolves when everything that had begun has ended or was abandoned: resources may close. */
  readonly quiesced: Promise<void>
  readonly #parts: Parts
  readonly #phases: DrainReport['phases'] = { draining: null, closing: null, aborted: null, closed: null }
  readonly #cut = new AbortController()
  readonly #booted: Promise<void>
  readonly #listening: Promise<void>
  #boot!: () => void
  #listen!: () => void
  #quiesce!: () => void
  #cause: StopCause | undefined
  #error: unknown
  #startedAt: Date | undefined
  #run: Promise<DrainReport> | undefined
  #escalated = false
  #decided = false
  /** The reported exit code, which nothing after the last report changes. */
  #reportedCode: DrainExitCode | undefined
  #listened = false
  #look: (() => void) | undefined
  #booting: (() => Promise<unknown>) | undefined

  constructor (parts: Parts) {
    this.#parts = parts
    this.#booted = new Promise(resolve => { this.#boot = resolve })
    this.#listening = new Promise(resolve => { this.#listen = resolve })
    this.quiesced = new Promise(resolve => { this.#quiesce = resolve })
  }

  /**
   * The boot has begun.
   *
   * @param outcome called only by a stop that waits for the boot: the application handles the error of a failed boot, and
   * would not get it if the plugin had asked before
   */
  booting (outcome: () => Promise<unknown>): void {
    this.#booting = outcome
    if (this.#run !== undefined) outcome().catch(this.#boot)
  }

  /** The app is ready. */
  ready (): void {
    if (this.state === 'starting') this.state = 'serving'
    if (this.#listened || this.#run === undefined) this.#boot()
    else setTimeout(this.#boot, listenMs)
  }

  /** The app listens. */
  listening (): void {
    this.#listened = true
    this.#listen()
    this.#boot()
    // It listens on an address whose lookup took longer than the stop waited.
    if (this.state === 'closing') void this.#parts.listeners.stopAccepting()
  }

  /** Starts the stop; later causes join the one under way. */
  start (cause: StopCause): Promise<DrainReport> {
    if (cause.error !== undefined) this.#error ??= cause.error
    // An `app.close()` during a stop joins it.
    if (cause.error !== undefined || (cause.closing === true && this.#run === undefined)) this.#cut.abort()
    this.#cause ??= cause
    this.#run ??= this.#course(this.#cause)
    return this.#run
  }

  /** Something has ended: checks whether anything is left. */
  changed (): void {
    this.#look?.()
  }

  /** Undefined until the last line of the log contains it. */
  get reportedCode (): DrainExitCode | undefined {
    return this.#reportedCode
  }

  /** Nothing that had begun is under way any more. */
  get decided (): boolean {
    return this.#decided
  }

  /**
   * The process ends at once: what is in flight is reported as abandoned. Only synchronous code still runs.
   *
   * @param escalated whether a second signal ends it, and not a `process.exit()` of other code
   */
  cutShort (how: string, escalated = false): DrainReport {
    const { app, settings, hooks, requests, tracked } = this.#parts
    const { onReport, reportFile } = settings
    const inFlight = requests.size
    const pending = requests.pending().map(({ method, route, id }) => `${method} ${route}${id === null ? '' : ` (${id})`}`).join(', ')
    this.#escalated = escalated
    if (!this.#decided) {
      this.#decided = true
      requests.abandon()
      tracked.abandon()
    }
    this.#reportedCode = this.#exitCode()
    const report = this.report()
    if (onReport !== undefined) hooks.watch('onReport', 'closed', reportMs, () => onReport(report))
    if (reportFile !== undefined) hooks.watch('reportFile', 'closed', reportMs, () => writeReportFile(reportFile, report))
    const line = `the stop was cut short: ${how}${inFlight === 0 ? '' : `, with ${inFlight} in flight: ${pending}`}. ${summary(report)}`
    writeAtExit(app.log, () => app.log.error({ drain: report }, line), line)
    return report
  }

  report (): DrainReport {
    const { settings, deadline, hooks, requests, connections, tracked } = this.#parts
    const started = this.#startedAt !== undefined
    return {
      state: this.state,
      reason: this.#cause?.reason ?? null,
      startedAt: this.#startedAt?.toISOString() ?? null,
      elapsed: Math.round(deadline.elapsed()),
      deadline: settings.deadline,
      remaining: started ? Math.round(deadline.remaining()) : null,
      phases: { ...this.#phases },
      requests: {
        inFlight: requests.size,
        atStart: requests.atStart,
        completed: copy(requests.completed),
        stalled: copy(requests.stalled),
        refused: copy(requests.refused),
        unstarted: copy(requests.unstarted),
        abandoned: copy(requests.abandoned),
        pending: requests.pending()
      },
      tracked: {
        settled: tracked.settled,
        failed: [...tracked.failed],
        abandoned: tracked.abandoned,
        pending: tracked.pending()
      },
      connections: { open: connections.size, closed: { ...connections.closed } },
      hooks: hooks.describe(),
      // Each running hook has a timer.
      resources: this.#decided ? activeResources(hooks.running + Number(deadline.timing)) : null,
      ...this.#error === undefined ? {} : { error: describeError(this.#error) },
      exitCode: this.#reportedCode ?? (this.#decided ? this.#exitCode() : null)
    }
  }

  async #course (cause: StopCause): Promise<DrainReport> {
    const { app, settings, deadline, hooks, requests, connections, listeners, webSockets, tracked, closeHooks, close } = this.#parts
    this.#startedAt = new Date()
    deadline.start()
    app.log.info({ reason: cause.reason, inFlight: requests.size, deadline: settings.deadline }, 'stopping')

    // A boot under way must not lose its resources.
    this.#booting?.().catch(this.#boot)
    if (this.state === 'starting' && cause.error === undefined) await Promise.race([this.#booted, deadline.passed])

    this.#enter('draining')
    requests.record()
    tracked.record()
    connections.announceClose(settings.lameDuck.jitter)
    const draining = this.#runHooks('draining')
    await Promise.race([
      deadline.passed,
      Promise.all([draining, lameDuck(settings.lameDuck, () => requests.lastArrival, this.#cut.signal)])
    ])

    // Fastify asks a listener for its address after it has looked up the others: it must still listen then.
    if (app.server.listening && !this.#listened) await Promise.race([this.#listening, sleep(lookupMs), deadline.passed])
    if (!this.#listened) listeners.keepAddress()
    this.#enter('closing')
    await listeners.stopAccepting()
    connections.startClosing()
    this.#runHooks('closing')
    // Before the preClose hooks: the one of @fastify/websocket sends no code.
    webSockets.close()
    if (connections.someUpgraded) listeners.endUpgraded()
    this.#runPreClose()
    await Promise.race([deadline.passed, this.#nothingLeft()])
    if (deadline.signal.aborted) await this.#abort()
    this.#decided = true
    this.#quiesce()

    await hooks.watch('app.close', 'closed', Math.max(deadline.remaining(), closeMs), close, () => closeHooks.describe())
    this.#enter('closed')
    const report = await this.#finish()
    // Last: its timer also keeps an idle loop from ending the process before the exit code is set.
    deadline.clear()
    return report
  }

  #runHooks (phase: DrainPhase): Promise<unknown> {
    const { deadline, hooks } = this.#parts
    return hooks.run({ reason: this.#cause?.reason ?? '', phase, signal: deadline.signal, remaining: () => deadline.remaining() })
  }

  /** Runs them one after the other, as Fastify does. Streams that end in them would otherwise hold the stop to its deadline. */
  async #runPreClose (): Promise<void> {
    const { closeHooks, deadline, hooks } = this.#parts
    for (const { name, run } of closeHooks.preClose) await hooks.watch(name, 'closing', deadline.remaining() / 2, run)
  }

  #nothingLeft (): Promise<void> {
    const { connections, deadline, hooks, requests, tracked, webSockets, refuse } = this.#parts
    const sweep = new Sweep(connections, requests, refuse, () => deadline.remaining())
    return new Promise(resolve => {
      let looking = false
      let collectAfter = unreachableMs
      let collectFrom: number | undefined
      const soon = (): void => {
        if (looking) return
        looking = true
        // A handler that ends may begin something else in the same turn. And sockets are read before this runs.
        setImmediate(look)
      }
      const timer = setInterval(soon, sweepMs)
      this.#look = soon
      const done = (): void => {
        clearInterval(timer)
        this.#look = undefined
        resolve()
      }
      deadline.passed.then(done)
      function look (): void {
        looking = false
        webSockets.close()
        if (sweep.look()) soon()
        if (tracked.size + hooks.running + connections.size > 0) return
        if (requests.size === 0) done()
        else if ([...requests].every(({ over }) => over)) collectUnreachable()
      }
      /** A request that no code can end is given up when its memory is collected, and Node alone may never collect it. */
      function collectUnreachable (): void {
        collectFrom ??= now() + collectAfter
        if (now() < collectFrom) return
        collectGarbage()
        collectAfter *= 2
        collectFrom = now() + collectAfter
      }
      soon()
    })
  }

  async #abort (): Promise<void> {
    const { app, connections, hooks, requests, tracked } = this.#parts
    this.#phases.aborted = Math.round(this.#parts.deadline.elapsed())
    // Time for handlers that answer when the signal aborts.
    await turn()
    await turn()
    const refused = [...requests].filter(({ begun, fate }) => !begun && fate === undefined)
    for (const exchange of refused) this.#parts.refuse(exchange)
    if (requests.size > 0 || tracked.size > 0) {
      app.log.error({ requests: requests.pending(), tracked: tracked.pending() }, `the deadline of ${this.#parts.deadline.length} ms has passed: abandoning ${requests.size} requests and ${tracked.size} pieces of tracked work`)
    }
    requests.abandon()
    tracked.abandon()
    hooks.abandon()
    // The answers go out, and Fastify logs them, before the report.
    for (let turns = 0; turns < 5 && refused.some(({ over }) => !over); turns++) await turn()
    connections.abort()
    // Time for the sockets to emit `close`.
    await turn()
    await turn()
  }

  async #finish (): Promise<DrainReport> {
    // The report was written then.
    if (this.#escalated) return this.report()
    const { app, settings, hooks } = this.#parts
    const { onReport, reportFile } = settings
    if (onReport !== undefined) await hooks.watch('onReport', 'closed', reportMs, () => onReport(this.report()))
    if (reportFile !== undefined) await hooks.watch('reportFile', 'closed', reportMs, () => writeReportFile(reportFile, this.report()))
    this.#reportedCode = this.#exitCode()
    const report = this.report()
    await writeLastLine(app.log, () => app.log[report.exitCode === 0 ? 'info' : 'error']({ drain: report }, `stopped: ${summary(report)}`))
    return report
  }

  #enter (state: DrainPhase | 'closed'): void {
    this.state = state
    this.#phases[state] = Math.round(this.#parts.deadline.elapsed())
    if (state !== 'closed') this.#parts.app.log.info({ inFlight: this.#parts.requests.size }, state)
  }

  #exitCode (): DrainExitCode {
    const { hooks, requests, tracked } = this.#parts
    if (this.#escalated) return 22
    if (this.#error !== undefined) return 1
    if (requests.abandoned.count > 0 || tracked.abandoned.length > 0) return 20
    if (hooks.failed) return 21
    return 0
  }
}

function summary ({ requests, tracked, elapsed, exitCode }: DrainReport): string {
  const abandoned = requests.abandoned.count + tracked.abandoned.length
  const stalled = requests.stalled.count === 0 ? '' : `${requests.stalled.count} stalled, `
  return `${requests.completed.count} completed, ${stalled}${requests.refused.count} refused, ${abandoned} abandoned in ${elapsed} ms, exit code ${String(exitCode)}`
}
