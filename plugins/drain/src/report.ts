/** starting: not yet ready. serving. draining: still accepting. closing: finishing what was begun. closed: done. */
export type DrainState = 'starting' | 'serving' | 'draining' | 'closing' | 'closed'

/** 0 clean · 1 uncaught error · 20 something abandoned · 21 a hook failed or timed out · 22 a second signal. */
export type DrainExitCode = 0 | 1 | 20 | 21 | 22

/** A count that is exact, and the request ids behind it, the first 1,000. */
export interface Tally {
  count: number
  ids: string[]
}

export interface PendingRequest {
  id: string | null
  method: string
  /** The route as it was declared, or the path without its query where none matched. */
  route: string
  /** ms since it arrived. */
  age: number
  /** waiting: nothing has begun. handler: a hook or the handler runs. response: answered, not sent to its end. */
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
  phase: 'draining' | 'closing' | 'closed'
  /** ms after the start of the stop. */
  started: number
  /** ms that it took. */
  duration: number
  outcome: 'running' | 'done' | 'failed' | 'timed-out'
  error?: string
}

/** JSON-safe. All times in ms, those of phases counted from the start of the stop. */
export interface DrainReport {
  state: DrainState
  /** The signal, `uncaughtException`, `unhandledRejection`, `close`, or what `start()` was given; null while serving. */
  reason: string | null
  /** ISO 8601. */
  startedAt: string | null
  /** Since the start of the stop. */
  elapsed: number
  deadline: number
  /** Until the deadline; null while serving. */
  remaining: number | null
  phases: {
    draining: number | null
    closing: number | null
    /** The deadline passed with something still running. */
    aborted: number | null
    closed: number | null
  }
  requests: {
    /** Now. */
    inFlight: number
    /** When the stop began. */
    atStart: number
    /** Begun and finished after the stop began; the client may have gone before. */
    completed: Tally
    /** Their clients took next to nothing of the answer for some seconds, or too little to have it by the deadline, and it was cut. What was begun has finished. */
    stalled: Tally
    /** Told that nothing was started, as nothing was. */
    refused: Tally
    /** Neither started nor answered: gone before they were complete, or pipelined behind a close. */
    unstarted: Tally
    /** Begun and not finished when the process ended. */
    abandoned: Tally
    /** In flight now, the first 100. */
    pending: PendingRequest[]
  }
  tracked: {
    /** Tracked work that settled after the stop began. */
    settled: number
    failed: Array<{ label: string, error: string }>
    abandoned: string[]
    /** Not settled yet, the first 100. */
    pending: PendingWork[]
  }
  connections: {
    open: number
    /** How they ended, since the stop began. */
    closed: ConnectionEnds
  }
  hooks: HookReport[]
  /**
   * What keeps the event loop alive beside the stop itself, by Node's names. In the last report: what the app has not let go
   * of, and what is not the app's, as another server of the process. Null while requests or work are under way.
   */
  resources: Record<string, number> | null
  /** The uncaught error that caused the stop, or came during it. */
  error?: string
  /** As it stands once nothing is left, so that an `onClose` hook can write it down; null before. */
  exitCode: DrainExitCode | null
}

export interface ConnectionEnds {
  /** After a reply, or by the client. */
  normally: number
  /** Kept alive, with nothing to do. */
  idle: number
  /** Never sent a byte. */
  unused: number
  /** A head or body that did not become complete. */
  incomplete: number
  /** Its client took too little of an answer. */
  stalled: number
  /** Upgraded, and ended by the stop. */
  upgraded: number
  /** Ended at the deadline with something in flight. */
  aborted: number
}

const MOST_IDS = 1_000

export function tally (): Tally {
  return { count: 0, ids: [] }
}

export function count (into: Tally, id: string | null): void {
  into.count++
  if (id !== null && into.ids.length < MOST_IDS) into.ids.push(id)
}

export function copy ({ count, ids }: Tally): Tally {
  return { count, ids: [...ids] }
}

export function describeError (error: unknown): string {
  if (error instanceof Error) return 'code' in error ? `${error.message} (${String(error.code)})` : error.message
  return String(error)
}
