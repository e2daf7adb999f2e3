import type { FastifyBaseLogger } from 'fastify'
import type { Deadline } from './deadline.ts'
import { FST_ERR_DRAIN_BUDGET, FST_ERR_DRAIN_HOOK } from './errors.ts'
import { functionName } from './function-name.ts'
import { describeError } from './report.ts'
import type { DrainPhase, HookReport } from './report.ts'
import { clearTimeout, now, setTimeout } from './timers.ts'

/** What a hook learns about its stop. */
export interface DrainHookContext {
  reason: string
  phase: DrainPhase
  /** Aborted at the deadline. */
  signal: AbortSignal
  /** ms to the deadline. */
  remaining: () => number
}

export type DrainHook = (stop: DrainHookContext) => unknown

export interface DrainHookOptions {
  /** Its name in the report and the log. Default: the name of the function, or the beginning of its source. */
  name?: string
  /** ms after which the stop goes on without the hook. Default: half of the time that remains when the hook starts. */
  timeout?: number
}

interface Registered {
  readonly hook: DrainHook
  readonly name: string
  readonly timeoutMs: number | undefined
}

/** The report keeps every hook that failed, and this many of the others: one hook for each open stream is normal. */
const mostReported = 100

export class Hooks {
  readonly reports: HookReport[] = []
  readonly #log: FastifyBaseLogger
  readonly #deadline: Deadline
  readonly #changed: () => void
  readonly #registered: Record<DrainPhase, Set<Registered>> = { draining: new Set(), closing: new Set() }
  readonly #running = new Map<HookReport, number>()
  /** The phases that have begun, with the context of their hooks. */
  readonly #begun = new Map<DrainPhase, DrainHookContext>()

  constructor (log: FastifyBaseLogger, deadline: Deadline, changed: () => void) {
    this.#log = log
    this.#deadline = deadline
    this.#changed = changed
  }

  get running (): number {
    return this.#running.size
  }

  get failed (): boolean {
    return this.reports.some(({ outcome }) => outcome === 'failed' || outcome === 'timed-out')
  }

  /** A hook for a phase that has already begun runs at once. */
  on (phase: DrainPhase, hook: DrainHook, { name, timeout }: DrainHookOptions = {}): () => void {
    if (!Object.hasOwn(this.#registered, phase)) throw new FST_ERR_DRAIN_HOOK(`there is no phase '${String(phase)}', only ${Object.keys(this.#registered).map(known => `'${known}'`).join(' and ')}`)
    if (typeof hook !== 'function') throw new FST_ERR_DRAIN_HOOK(`the hook of '${phase}' is no function`)
    if (timeout !== undefined && !(timeout >= 0)) throw new FST_ERR_DRAIN_HOOK(`the timeout of a hook is ${String(timeout)}, and must be a number of 0 or more`)
    if (timeout !== undefined && timeout > this.#deadline.length) {
      throw new FST_ERR_DRAIN_BUDGET(`the hook '${name ?? hook.name}' asks for ${timeout} ms of a deadline of ${this.#deadline.length} ms`)
    }
    const entry = { hook, name: name || functionName(hook), timeoutMs: timeout }
    this.#registered[phase].add(entry)
    const context = this.#begun.get(phase)
    if (context !== undefined) {
      // In the next turn, when the caller has the function that removes the hook.
      queueMicrotask(() => { if (this.#registered[phase].has(entry)) this.#start(entry, context) })
    }
    return () => { this.#registered[phase].delete(entry) }
  }

  run (context: DrainHookContext): Promise<unknown> {
    this.#begun.set(context.phase, context)
    return Promise.all([...this.#registered[context.phase]].map(entry => this.#start(entry, context)))
  }

  /**
   * Runs a step of the stop itself under the same watch as a hook.
   *
   * @param where describes where the step hangs, if it does
   */
  watch (name: string, phase: HookReport['phase'], timeoutMs: number, work: () => unknown, where?: () => string): Promise<void> {
    return this.#watch({ name, phase, ...this.#begins() }, timeoutMs, work, where)
  }

  #start (entry: Registered, context: DrainHookContext): Promise<void> {
    this.#registered[context.phase].delete(entry)
    const timeoutMs = entry.timeoutMs ?? this.#deadline.remaining() / 2
    return this.#watch({ name: entry.name, phase: context.phase, ...this.#begins() }, timeoutMs, () => entry.hook(context))
  }

  #begins (): Pick<HookReport, 'started' | 'duration' | 'outcome'> {
    return { started: Math.round(this.#deadline.elapsed()), duration: 0, outcome: 'running' }
  }

  async #watch (report: HookReport, timeoutMs: number, work: () => unknown, where?: () => string): Promise<void> {
    this.#running.set(report, now())
    let timer: NodeJS.Timeout | undefined
    try {
      const outcome = await Promise.race([
        Promise.resolve(work()).then(() => 'done' as const),
        new Promise<'timed-out'>(resolve => { timer = setTimeout(resolve, timeoutMs, 'timed-out') })
      ])
      if (!this.#running.has(report)) return
      report.outcome = outcome
      if (outcome === 'timed-out') {
        const hangs = `hangs${where === undefined ? '' : ` ${where()}`}`
        if (where !== undefined) report.error = hangs
        this.#log.error({ hook: report.name, phase: report.phase, timeout: Math.round(timeoutMs) }, `the ${report.phase} hook '${report.name}' ${hangs}: the stop goes on without it`)
      }
    } catch (error) {
      report.outcome = 'failed'
      report.error = describeError(error)
      this.#log.error({ err: error, hook: report.name, phase: report.phase }, `the ${report.phase} hook '${report.name}' failed: the stop goes on without it`)
    } finally {
      clearTimeout(timer)
      this.#ended(report)
    }
  }

  #ended (report: HookReport): void {
    const start = this.#running.get(report)
    if (start === undefined) return
    this.#running.delete(report)
    report.duration = Math.round(now() - start)
    if (report.outcome !== 'done' || this.reports.length < mostReported) this.reports.push(report)
    this.#changed()
  }

  /** The deadline has passed: the hooks that still run have timed out. */
  abandon (): void {
    for (const report of [...this.#running.keys()]) {
      report.outcome = 'timed-out'
      this.#ended(report)
    }
  }

  /** The hooks that have ended, and those that run. */
  describe (): HookReport[] {
    const time = now()
    const running = [...this.#running].map(([report, start]) => ({ ...report, duration: Math.round(time - start) }))
    return [...this.reports, ...running].slice(0, 2 * mostReported)
  }
}
