import type { Run } from '../target.ts'
import type { Mix } from './mix.ts'

/** What the program of the load is started with: its one argument, as JSON. */
export type Settings = LoadSettings | SettleSettings

interface Common {
  /** Absolute path of a target file. */
  readonly targetFile: string
  readonly run: Run
  /** Where the service listens: one, or several instances where nothing balances them; the clients are spread over them. */
  readonly urls: readonly [string, ...string[]]
  /** Each has one connection. */
  readonly clients: number
  /** ms until a request that got no answer is given up. Default: the target's, else 20,000. */
  readonly timeout?: number
  readonly historyFile: string
}

export interface LoadSettings extends Common {
  readonly what: 'load'
  /** Arrivals per second, on average. Some arrivals are two requests at once. max: as many as the service takes. */
  readonly rate: number | 'max'
  /** ms. */
  readonly duration: number
  readonly seed: number
  /** Shares that differ from the usual ones; 0: none of it. */
  readonly mix?: Partial<Mix>
  /** ms that streams stay open at the end for events that are owed to them. Default: 15,000. */
  readonly patience?: number
  /** It goes on after the duration, without arrivals, until it is told to finish. */
  readonly untilFinished?: boolean
}

/** Asks again for what a load has left behind: its `historyFile` is read, and `settleFile` written. */
export interface SettleSettings extends Common {
  readonly what: 'settle'
  readonly settleFile: string
}

/** What it tells its parent: how far it is, every 500 ms and at the end, that a burst is on its way, and last that it is done. */
export type Told = { readonly progress: Counts } | 'burst' | 'done'

/**
 * What its parent may tell it. stop: to begin nothing more, and be done when all that was begun has ended. burst: so many
 * requests at once, and as many again as are answered for so many ms. finish: so many ms of arrivals, as the faults are over, and then to be done.
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
