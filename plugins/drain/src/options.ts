import { constants } from 'node:os'
import { FST_ERR_DRAIN_BUDGET, FST_ERR_DRAIN_OPTION } from './errors.ts'
import { reportFilePath } from './report-file.ts'
import type { DrainReport } from './report.ts'

/** How long the service goes on accepting after the signal, while balancers learn that it leaves. All in ms. */
export interface LameDuck {
  /** At least this long. Default 0. */
  min?: number
  /** The lame duck ends once no request has arrived for this long. Default 0. */
  quiet?: number
  /** At most this long. Default: `min`. */
  max?: number
  /**
   * Connections that are open at the signal are told to close at a random moment within this time, so that their clients do
   * not all reconnect to the other instances at once. Default 0: with their next reply.
   */
  jitter?: number
}

export interface DrainOptions {
  /** The signals that start a stop. Default `['SIGTERM', 'SIGINT']`. */
  signals?: NodeJS.Signals[]
  /**
   * Removes other listeners of these signals from the process when the app is ready, such as those of a framework that would
   * end the process or close the app. Default `false`: a warning names them.
   */
  takeSignals?: boolean
  /** Default: none. Use it if a balancer routes traffic here. */
  lameDuck?: LameDuck
  /** ms from the signal to the exit, everything included. Default 25,000. */
  deadline?: number
  /**
   * Whether the plugin owns the end of the process: signals, uncaught errors and `process.exit()`.
   * With `false` it touches none of them, and a stop ends when the app is closed. Default `true`.
   */
  exit?: boolean
  /**
   * Called with the finished report, before the last log line. It has 1,000 ms. If it throws or its promise rejects, that
   * counts as a failed hook. Default: none.
   */
  onReport?: (report: DrainReport) => void | Promise<void>
  /** The file for the finished report, as JSON, written before the last log line. Its folder must exist. Default: none. */
  reportFile?: string
  /** The answer to a request that arrives too late to be started. */
  refusal?: {
    /** The problem type (RFC 9457), an URI. Default `urn:fastify-drain:not-started`. */
    type?: string
    /** The problem's title. Use the same if the application itself answers with this type. Default `Service is stopping`. */
    title?: string
    /** Seconds, sent as `Retry-After`, rounded up. Default 1. */
    retryAfter?: number
  }
}

export interface Settings {
  readonly signals: readonly NodeJS.Signals[]
  readonly takeSignals: boolean
  readonly lameDuck: Readonly<Required<LameDuck>>
  readonly deadline: number
  readonly exit: boolean
  readonly onReport: DrainOptions['onReport']
  /** An absolute path. */
  readonly reportFile: string | undefined
  readonly refusal: Readonly<{ type: string, title: string, retryAfter: number }>
}

/** The longest delay of a Node timer; one with a longer delay fires at once. */
const longestTimer = 2 ** 31 - 1

/** @throws FST_ERR_DRAIN_OPTION, FST_ERR_DRAIN_BUDGET */
export function readOptions (options: DrainOptions): Settings {
  const signals = options.signals ?? ['SIGTERM', 'SIGINT']
  for (const signal of signals) checkSignal(signal)

  const min = milliseconds('lameDuck.min', options.lameDuck?.min ?? 0)
  const quiet = milliseconds('lameDuck.quiet', options.lameDuck?.quiet ?? 0)
  const max = milliseconds('lameDuck.max', options.lameDuck?.max ?? min)
  const jitter = milliseconds('lameDuck.jitter', options.lameDuck?.jitter ?? 0)
  const deadline = milliseconds('deadline', options.deadline ?? 25_000)
  if (min > max) throw new FST_ERR_DRAIN_BUDGET(`lameDuck.min (${min} ms) is longer than lameDuck.max (${max} ms)`)
  if (quiet > max) throw new FST_ERR_DRAIN_BUDGET(`lameDuck.quiet (${quiet} ms) is longer than lameDuck.max (${max} ms) and could never be reached`)
  if (jitter > max) throw new FST_ERR_DRAIN_BUDGET(`lameDuck.jitter (${jitter} ms) is longer than lameDuck.max (${max} ms)`)
  if (max >= deadline) throw new FST_ERR_DRAIN_BUDGET(`lameDuck.max (${max} ms) leaves nothing of the deadline (${deadline} ms) for the requests in flight`)

  const onReport = options.onReport
  if (onReport !== undefined && typeof onReport !== 'function') throw new FST_ERR_DRAIN_OPTION('`onReport` must be a function')

  return {
    signals: [...new Set(signals)],
    takeSignals: options.takeSignals ?? false,
    lameDuck: { min, quiet, max, jitter },
    deadline,
    exit: options.exit ?? true,
    onReport,
    reportFile: options.reportFile === undefined ? undefined : reportFilePath(options.reportFile),
    refusal: {
      type: options.refusal?.type ?? 'urn:fastify-drain:not-started',
      title: options.refusal?.title ?? 'Service is stopping',
      retryAfter: Math.ceil(nonNegative('refusal.retryAfter', options.refusal?.retryAfter ?? 1))
    }
  }
}

function checkSignal (signal: NodeJS.Signals): void {
  if (!(signal in constants.signals)) throw new FST_ERR_DRAIN_OPTION(`\`signals\` names '${String(signal)}', which is no signal of this system`)
  if (signal === 'SIGKILL' || signal === 'SIGSTOP') throw new FST_ERR_DRAIN_OPTION(`\`signals\` names '${signal}', which no process can catch`)
}

function milliseconds (name: string, value: number): number {
  if (nonNegative(name, value) > longestTimer) throw new FST_ERR_DRAIN_OPTION(`\`${name}\` is ${value} ms, more than a timer can wait (${longestTimer} ms)`)
  return value
}

function nonNegative (name: string, value: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) throw new FST_ERR_DRAIN_OPTION(`\`${name}\` must be a number of 0 or more, and is ${String(value)}`)
  return value
}
