import type { LedgerLine } from '../gateway/ledger.ts'
import type { Line } from '../history.ts'
import type { Delivery, Product, Snapshot, StopReport, Target } from '../target.ts'
import type { Fault } from '../verdict.ts'

/** A fault as it was recorded. */
export type Struck = Omit<Fault, 'inFlight' | 'reported'> & {
  /** The service's own report of its stop. */
  readonly report?: StopReport
  /** How many requests the harness sent from the signal to the exit: readiness checks, and notifications of the gateway. The service counts these, too. */
  readonly probes?: number
}

/** The circumstances of a run, without its requests, answers and stored data. */
export interface Circumstances {
  readonly scenario: string
  readonly target: string
  readonly seed: number
  /** ISO 8601. */
  readonly startedAt: string
  /** ms of load. */
  readonly duration: number
  readonly environment: Readonly<Record<string, string>>
  /** The judge counts the requests that each one hit. */
  readonly faults: readonly Struck[]
  /** The catalogue, with the stock before the first order. */
  readonly products: readonly Product[]
  readonly transitions: Target['transitions']
  readonly states?: Target['states']
  readonly features?: Target['features']
  /** Kinds of arrivals that the target has no request for, and `stream`. */
  readonly lacks?: readonly string[]
  readonly needed: {
    /** How many faults must have hit a request in flight: 1, or 0 in a scenario without faults. */
    readonly faultsInFlight: number
    /** Whether no request may fail: behind a balancer, restarts must be invisible. */
    readonly noFailedRequest?: boolean
    /** Whether each promise needs enough occasions to be broken, by coverage.ts. */
    readonly occasions?: boolean
  }
}

/** All that a verdict rests on. Plain data, so that anyone who doubts a verdict can judge the same evidence again. */
export interface Evidence extends Circumstances {
  /** What the load did and saw. */
  readonly history: readonly Line[]
  /** The settling: after the faults, every acknowledged or unknown key is posted again. Its operation numbers continue those of the load. */
  readonly settle: readonly Line[]
  /** The read after the faults and before the settling. */
  readonly first: Snapshot | undefined
  /** The read after the settling, when the service has come to rest. */
  readonly second: Snapshot | undefined
  /** What the harness's consumer received, in sequence. Absent if the target sends it nothing. */
  readonly deliveries?: readonly Delivery[]
  /** What the harness's gateway did, in sequence. Absent if the service did not use it. */
  readonly ledger?: readonly LedgerLine[]
}
