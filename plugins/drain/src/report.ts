/** starting: not yet ready. serving. draining: still accepting. closing: finishing what was begun. closed: done. */
export type DrainState = 'starting' | 'serving' | DrainPhase | 'closed'

/** The phases of a stop, to which hooks belong. */
export type DrainPhase = 'draining' | 'closing'

/** 0 clean · 1 uncaught error · 20 something abandoned · 21 a hook failed or timed out · 22 a second signal. */
export type DrainExitCode = 0 | 1 | 20 | 21 | 22

/** An exact count, and the first 1,000 of its request ids. */
export interface Tally {
  count: number
  ids: string[]
}

export interface PendingRequest {
  id: string | null
  method: string
  /** The route as it was declared, or the path without its query if none matched. */
  route: string
  /** ms since the request arrived. */
  age: number
  /** waiting: no code has started. handler: a hook or the handler runs. response: answered, but not fully sent. */
  phase: 'waiting' | 'handler' | 'response'
  clientGone: boolean
}

export interface PendingWork {
  label: string
  /** ms since `track()`. */
  age: number
}

export interface HookReport {
  name: string
  phase: DrainPhase | 'closed'
  /** ms after the start of the stop. */
  started: number
  /** How long it took, in ms. */
  duration: number
  outcome: 'running' | 'done' | 'failed' | 'timed-out'
  error?: string
}

/** JSON-safe. All times are in ms; those of phases count from the start of the stop. */
export interface DrainReport {
  state: DrainState
  /** The signal, `uncaughtException`, `unhandledRejection`, `close`, or the argument of `start()`; null while serving. */
  reason: string | null
  /** ISO 8601. */
  startedAt: string | null
  /** ms since the start of the stop. */
  elapsed: number
  deadline: number
  /** ms until the deadline; null while serving. */
  remaining: number | null
  phases: {
    draining: number | null
    closing: number | null
    /** When the deadline passed with something still running. */
    aborted: number | null
    closed: number | null
  }
  requests: {
    /** Requests in flight now. */
    inFlight: number
    /** Requests in flight when the stop began. */
    atStart: number
    /** Requests that had begun, and finished after the stop began; the client may have left earlier. */
    completed: Tally
    /**
     * Requests whose answer was cut, because the client read almost nothing for some seconds, or too little to have it by the
     * deadline. Their handlers have finished.
     */
    stalled: Tally
    /** Requests that got a not-started answer; no code was started for them. */
    refused: Tally
    /** Requests that were neither started nor answered: the client left before they were complete, or they were pipelined behind a close. */
    unstarted: Tally
    /** Requests that had begun and were not finished when the process ended. */
    abandoned: Tally
    /** The first 100 requests that are in flight now. */
    pending: PendingRequest[]
  }
  tracked: {
    /** Tracked work that settled after the stop began. */
    settled: number
    failed: Array<{ label: string, error: string }>
    abandoned: string[]
    /** The first 100 that have not settled. */
    pending: PendingWork[]
  }
  connections: {
    open: number
    /** How connections ended since the stop began. */
    closed: ConnectionEnds
  }
  hooks: HookReport[]
  /**
   * What keeps the event loop alive, other than the stop itself, by Node's names. In the last report: what the app has not
   * released, and what is not the app's, such as another server of the process. Null while requests or work are under way.
   */
  resources: Record<string, number> | null
  /** The uncaught error that caused the stop or happened during it. */
  error?: string
  /** The exit code, from the moment that nothing is left, so that an `onClose` hook can record it; null before. */
  exitCode: DrainExitCode | null
}

export interface ConnectionEnds {
  /** Closed after a reply, or by the client. */
  normally: number
  /** Kept alive and idle. */
  idle: number
  /** The client never sent a byte. */
  unused: number
  /** A head or body that did not become complete. */
  incomplete: number
  /** The client read too little of an answer. */
  stalled: number
  /** Upgraded, and ended by the stop. */
  upgraded: number
  /** Ended at the deadline with something in flight. */
  aborted: number
}

const mostIds = 1_000

export function tally (): Tally {
  return { count: 0, ids: [] }
}

export function count (into: Tally, id: string | null): void {
  into.count++
  if (id !== null && into.ids.length < mostIds) into.ids.push(id)
}

export function copy ({ count, ids }: Tally): Tally {
  return { count, ids: [...ids] }
}

export function describeError (error: unknown): string {
  if (error instanceof Error) return 'code' in error ? `${error.message} (${String(error.code)})` : error.message
  return String(error)
}
