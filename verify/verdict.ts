import type { Invocation, Completion, Time } from './history.ts'

/** What `verdict.json` holds. Counts of orders, unless said otherwise; an order is one key of one customer. */
export interface Verdict {
  /** held: every promise. broken: at least one. unknown: the evidence does not suffice to say. */
  readonly verdict: 'held' | 'broken' | 'unknown'
  readonly scenario: string
  readonly target: string
  readonly seed: number
  readonly startedAt: string
  /** ms of load. */
  readonly duration: number
  readonly attempted: number
  /** At least one whole 2xx. */
  readonly acknowledged: number
  /** Every attempt was told that nothing was stored. */
  readonly refused: number
  /** Neither, when the load ended. */
  readonly unknown: number
  /** Unknown and stored: no fault, the client may ask. */
  readonly recovered: number
  /** Of each invariant how often it was broken. */
  readonly lost: number
  readonly phantom: number
  readonly resurrected: number
  readonly duplicated: number
  readonly replayMismatch: number
  readonly wrongContent: number
  readonly oversold: number
  readonly outboxMissing: number
  readonly undelivered: number
  readonly state: number
  readonly wrongRead: number
  readonly notListed: number
  readonly notStreamed: number
  readonly wrongTransition: number
  readonly falseRefusal: number
  readonly abandoned: number
  readonly falseReport: number
  readonly uncleanStop: number
  readonly chargedTwice: number
  readonly paidUncharged: number
  readonly declinedCharged: number
  readonly shippedUnpaid: number
  readonly strayCharge: number
  readonly wrongRefund: number
  /** Payments and refunds. */
  readonly unsettled: number
  /** Of `failedRequests`, orders where it is promised that none fails. */
  readonly failedRequest: number
  /** Acknowledged before the last fault, so that it could have lost them. */
  readonly exposed: number
  /** Of how many exposed orders at most one may be lost in the long run, at 95 %: 3 / n (the rule of three). Null where some were, or none was exposed. */
  readonly lossBound: number | null
  readonly faults: readonly Fault[]
  /** Requests that got no answer, or a 5xx, or were refused with nothing wrong about them. Clients that hung up themselves do not count. */
  readonly failedRequests: number
  /** ms from the scheduled send to the whole answer, of requests that got one. */
  readonly latency: { readonly p50: number, readonly p99: number, readonly max: number }
  /** What the service has not: not asked or not checked, and not held against it. */
  readonly skipped?: readonly string[]
  /** How often each promise could have been broken, and whether that is enough to say that it held. */
  readonly coverage: readonly Occasion[]
  /** Why the verdict is unknown. */
  readonly missing: readonly string[]
  readonly checked: readonly Check[]
  readonly counterexamples: readonly Counterexample[]
  /** Operations by purpose and outcome. */
  readonly operations: Readonly<Record<string, Readonly<Record<'ok' | 'fail' | 'info', number>>>>
  readonly environment: Readonly<Record<string, string>>
}

export type Invariant =
  | 'lost' | 'phantom' | 'resurrected' | 'duplicated' | 'replayMismatch' | 'wrongContent' | 'oversold' | 'outboxMissing' | 'undelivered' | 'state'
  | 'wrongRead' | 'notListed' | 'notStreamed' | 'wrongTransition' | 'falseRefusal' | 'abandoned' | 'falseReport'
  | 'chargedTwice' | 'paidUncharged' | 'declinedCharged' | 'shippedUnpaid' | 'strayCharge' | 'wrongRefund' | 'unsettled'
  | 'uncleanStop' | 'failedRequest'

export interface Check {
  readonly invariant: Invariant
  /** One sentence. */
  readonly says: string
  /** How many things were looked at; null: not checked, with the reason. */
  readonly looked: number | null
  readonly broken: number
  readonly because?: string
}

/** Something that must happen often enough before a run says anything of a promise. */
export interface Occasion {
  /** Which of the promises of the design it is about. */
  readonly promise: 'P1' | 'P2' | 'P3' | 'P4' | 'P5' | 'P6' | 'content' | 'stock' | 'events' | 'money'
  /** In a few words. */
  readonly says: string
  /** The kind of fault, where each kind needs its own. */
  readonly kind?: string
  readonly count: number
  readonly needed: number
  /** Why it is not asked for: the target has no such thing. */
  readonly skipped?: string
}

export interface Fault {
  readonly kind: string
  readonly at: Time
  /** Which instance it hit, where it hit one. */
  readonly instance?: number
  /** Requests in flight at that moment, from the history. */
  readonly inFlight: number
  /** Of the process that it ended; null: by a signal, or none ended. */
  readonly exitCode: number | null
  /** ms from the signal to the exit; null where nothing was drained. */
  readonly drainMs: number | null
  /** How many requests the service itself reported of its stop, by what became of them. */
  readonly reported?: Readonly<Record<string, number>>
  /** ms, from the fault: the phases of the stop, where the service reports them. */
  readonly phases?: { readonly draining: number, readonly closing: number, readonly closed: number }
  /** When traffic could come again. */
  readonly recoveredAt?: Time
}

/** What shows that an invariant was broken, in full. */
export interface Counterexample {
  readonly invariant: Invariant
  /** One sentence, with ids. */
  readonly says: string
  readonly key?: string
  readonly customer?: string
  readonly orderId?: string
  /** All that was done with that order, in time. */
  readonly lines: ReadonlyArray<Invocation | Completion>
  /** What is stored of it. */
  readonly stored: unknown
}
