import type { Invocation, Completion, Time } from './history.ts'

export const invariants = [
  'lost', 'duplicated', 'phantom', 'resurrected', 'replayMismatch', 'wrongContent', 'oversold', 'outboxMissing', 'undelivered', 'state',
  'wrongRead', 'notListed', 'notStreamed', 'wrongTransition', 'falseRefusal',
  'chargedTwice', 'paidUncharged', 'declinedCharged', 'shippedUnpaid', 'strayCharge', 'wrongRefund', 'unsettled',
  'abandoned', 'falseReport', 'uncleanStop', 'failedRequest'
] as const
export type Invariant = typeof invariants[number]

/**
 * The contents of `verdict.json`: for each invariant how often it was broken, and more. Numbers count orders, unless a comment says
 * otherwise; an order is one key of one customer. `unsettled` counts payments and refunds, `failedRequest` those of
 * `failedRequests` that break the promise that no request fails.
 */
export interface Verdict extends Readonly<Record<Invariant, number>> {
  /** held: every promise was kept. broken: at least one was not. unknown: the evidence is not sufficient. */
  readonly verdict: 'held' | 'broken' | 'unknown'
  readonly scenario: string
  readonly target: string
  readonly seed: number
  readonly startedAt: string
  /** Length of the load, in ms. */
  readonly duration: number
  readonly attempted: number
  /** Orders with at least one whole 2xx. */
  readonly acknowledged: number
  /** Orders whose every attempt was answered that nothing was stored. */
  readonly refused: number
  /** Orders that were neither when the load ended. */
  readonly unknown: number
  /** Unknown orders that are stored, which is no fault: the client may ask. */
  readonly recovered: number
  /** Orders acknowledged before the last fault, which could have lost them. */
  readonly exposed: number
  /**
   * The upper bound of the share of exposed orders that are lost in the long run, at 95 %: 3 / n (the rule of three). Null if
   * orders were lost, or none was exposed.
   */
  readonly lossBound: number | null
  readonly faults: readonly Fault[]
  /** Requests that got no answer or a 5xx, or were refused although they were correct. Clients that hung up do not count. */
  readonly failedRequests: number
  /** ms from the scheduled sending to the whole answer, for requests that got one. */
  readonly latency: { readonly p50: number, readonly p99: number, readonly max: number }
  /** What the service lacks: not requested or not checked, and not counted against it. */
  readonly skipped?: readonly string[]
  /** How often each promise could have been broken, and whether that is enough for the verdict held. */
  readonly coverage: readonly Occasion[]
  /** Why the verdict is unknown. */
  readonly missing: readonly string[]
  readonly checked: readonly Check[]
  readonly counterexamples: readonly Counterexample[]
  /** Operations by purpose and outcome. */
  readonly operations: Readonly<Record<string, Readonly<Record<'ok' | 'fail' | 'info', number>>>>
  readonly environment: Readonly<Record<string, string>>
}

export interface Check {
  readonly invariant: Invariant
  /** One sentence. */
  readonly says: string
  /** How many things were examined; null if it was not checked, with the reason. */
  readonly looked: number | null
  readonly broken: number
  readonly because?: string
}

/** Something that must happen often enough before a run proves anything about a promise. */
export interface Occasion {
  /** The promise of the design that it is about. */
  readonly promise: 'P1' | 'P2' | 'P3' | 'P4' | 'P5' | 'P6' | 'content' | 'stock' | 'events' | 'money'
  /** In a few words. */
  readonly says: string
  /** The kind of fault, if each kind needs its own. */
  readonly kind?: string
  readonly count: number
  readonly needed: number
  /** Why it is not required: the target lacks it. */
  readonly skipped?: string
}

export interface Fault {
  readonly kind: string
  readonly at: Time
  /** The instance that it hit, if any. */
  readonly instance?: number
  /** Requests in flight at that moment, from the history. */
  readonly inFlight: number
  /** The exit code of the process that it ended; null if a signal ended it, or none ended. */
  readonly exitCode: number | null
  /** ms from the signal to the exit; null if nothing was drained. */
  readonly drainMs: number | null
  /** How many requests the service itself reported for its stop, by outcome. */
  readonly reported?: Readonly<Record<string, number>>
  /** The phases of the stop in ms from the fault, if the service reports them. */
  readonly phases?: { readonly draining: number, readonly closing: number, readonly closed: number }
  /** When traffic was possible again. */
  readonly recoveredAt?: Time
}

/** The full evidence that an invariant was broken. */
export interface Counterexample {
  readonly invariant: Invariant
  /** One sentence, with ids. */
  readonly says: string
  readonly key?: string
  readonly customer?: string
  readonly orderId?: string
  /** All requests about that order, by time. */
  readonly lines: ReadonlyArray<Invocation | Completion>
  /** The stored rows of the order. */
  readonly stored: unknown
}
