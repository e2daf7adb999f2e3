import type { Run } from '../target.ts'
import type { Mix } from './mix.ts'

/** The settings of the load's program: its only argument, as JSON. */
export type Settings = LoadSettings | SettleSettings

interface Common {
  /** Absolute path of a target file. */
  readonly targetFile: string
  readonly run: Run
  /** The URLs of the service: one, or those of several instances without a balancer; the clients are spread over them. */
  readonly urls: readonly [string, ...string[]]
  /** Each has one connection. */
  readonly clients: number
  /** ms until a request without an answer is given up. Default: that of the target, otherwise 20,000. */
  readonly timeoutMs?: number
  readonly historyFile: string
}

export interface LoadSettings extends Common {
  readonly what: 'load'
  /** Arrivals per second, on average. Some arrivals are two requests at the same time. max: as many as the service takes. */
  readonly rate: number | 'max'
  /** ms. */
  readonly duration: number
  readonly seed: number
  /** Shares that differ from the usual ones; 0: none. */
  readonly mix?: Partial<Mix>
  /** ms that streams stay open at the end for events that are owed to them. Default: 15,000. */
  readonly patienceMs?: number
  /** After the duration it goes on without arrivals until it is told to finish. */
  readonly untilFinished?: boolean
}

/** Sends the orders of a load again: reads its `historyFile` and writes `settleFile`. */
export interface SettleSettings extends Common {
  readonly what: 'settle'
  readonly settleFile: string
}

/** Its messages to the parent: the counts, every 500 ms and at the end; that a burst is under way; and at last that it is done. */
export type Told = { readonly progress: Counts } | 'burst' | 'done'

/**
 * Messages from its parent. stop: begin no more requests, and end when all have ended. burst: `count` requests at once, and
 * another one for each answer for `ms`. finish: the faults are over; `ms` of further arrivals, and then end.
 */
export type Tell = 'stop' | { readonly burst: number, readonly ms: number } | { readonly finish: number }

export interface Counts {
  readonly invoked: number
  readonly ok: number
  readonly fail: number
  readonly info: number
  readonly inFlight: number
  /** Orders. */
  readonly acknowledged: number
}
