import type { LedgerLine } from '../gateway/ledger.ts'
import type { Delivery, Feature, OrderStored, StateName } from '../target.ts'
import type { Circumstances } from './evidence.ts'
import type { Findings, Subject } from './findings.ts'
import type { Prices } from './prices.ts'
import type { Stored } from './stored.ts'
import type { Told } from './told.ts'

/**
 * What every check is given: all that was said and stored of some customers, or of all. Nobody else's orders say anything of theirs;
 * what is about everybody, as the stock is, has a check of its own.
 */
export interface Case {
  readonly evidence: Circumstances
  readonly told: Told
  /** Those that there are, the last one last. */
  readonly reads: readonly Stored[]
  /** Absent where the target hands its events to nobody. */
  readonly deliveries?: readonly Delivery[]
  /** What the gateway did, by itself. Absent where it was not the harness's. */
  readonly ledger?: readonly LedgerLine[]
  /** Of everybody. */
  readonly prices: Prices
  /** What the service is held to beside what it stores. */
  readonly features: ReadonlySet<Feature>
  readonly findings: Findings
}

/** How many things a check looked at; null where it could not look, because the target or the run lacks that part. */
export interface Looked {
  readonly looked: number | null
  /** What was not looked at, and why. */
  readonly because?: string
}

export const noRead = { looked: null, because: 'There was no final read.' } as const satisfies Looked

/** Whose order an id is: as it was acknowledged, and where it never was, as it is stored. */
export function ownerOf ({ told, reads }: Case, id: string): { customer: string, key: string } | undefined {
  return told.acknowledged.get(id)?.order ?? reads.at(-1)?.byId.get(id)?.[0] ?? reads[0]?.byId.get(id)?.[0]
}

export function subjectOf (trial: Case, id: string): Subject {
  const owner = ownerOf(trial, id)
  return owner ? { customer: owner.customer, key: owner.key, orderId: id } : { orderId: id }
}

export function subjectOfRow ({ customer, key, id }: OrderStored): Subject {
  return { customer, key, orderId: id }
}

/** What the service calls a state. */
export function stateOf ({ evidence: { states } }: Pick<Case, 'evidence'>, name: StateName): string {
  return states?.[name] ?? name
}
