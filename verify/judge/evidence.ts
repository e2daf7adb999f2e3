import type { LedgerLine } from '../gateway/ledger.ts'
import type { Line } from '../history.ts'
import type { Delivery, Product, Snapshot, StopReport, Target } from '../target.ts'
import type { Fault } from '../verdict.ts'

/** A fault as it was recorded. */
export type Struck = Omit<Fault, 'inFlight' | 'reported'> & {
  /** What the service itself reported of its stop. */
  readonly report?: StopReport
  /** How often the harness itself asked from the signal to the exit, for readiness or as a gateway that tells of a change: the service counts these as requests, too. */
  readonly probes?: number
}

/** What a run was like, beside what was said and what is stored. */
export interface Circumstances {
  readonly scenario: string
  readonly target: string
  readonly seed: number
  /** ISO 8601. */
  readonly startedAt: string
  /** ms of load. */
  readonly duration: number
  readonly environment: Readonly<Record<string, string>>
  /** How many requests each one hit is the judge's to say. */
  readonly faults: readonly Struck[]
  /** The catalogue, with the stock that there was before the first order. */
  readonly products: readonly Product[]
  readonly transitions: Target['transitions']
  readonly states?: Target['states']
  readonly features?: Target['features']
  /** Kinds of arrivals that the target has no request for, and `stream`. */
  readonly lacks?: readonly string[]
  readonly needed: {
    /** Of the faults, how many must have hit a request in flight: 1, or 0 in a scenario that has none. */
    readonly faultsInFlight: number
    /** That restarts are invisible is promised behind a balancer. */
    readonly noFailedRequest?: boolean
    /** That there must have been enough occasions for each promise to be broken, as coverage.ts has it. */
    readonly occasions?: boolean
  }
}

/** All that a verdict rests on. Plain data: whoever doubts a verdict can judge the same evidence again. */
export interface Evidence extends Circumstances {
  /** What the load did and saw. */
  readonly history: readonly Line[]
  /** After the faults every key that was acknowledged or unknown is posted again. Operations go on counting. */
  readonly settle: readonly Line[]
  /** After the faults, before the settling. */
  readonly first: Snapshot | undefined
  /** After the settling, when the service has come to rest. */
  readonly second: Snapshot | undefined
  /** What the harness's own consumer received, in order. Absent where the target hands it nothing. */
  readonly deliveries?: readonly Delivery[]
  /** What the harness's own gateway did, in order. Absent where the service did not ask it. */
  readonly ledger?: readonly LedgerLine[]
}
