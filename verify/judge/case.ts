import type { LedgerLine } from '../gateway/ledger.ts'
import type { Delivery, Feature, OrderStored, StateName } from '../target.ts'
import type { Circumstances } from './evidence.ts'
import type { Findings, Subject } from './findings.ts'
import type { Prices } from './prices.ts'
import type { Stored } from './stored.ts'
import type { Told } from './told.ts'

/**
 * The input of every check: all requests, answers and stored data of some customers, or of all. Other customers' orders prove
 * nothing about theirs. What concerns everybody, such as the stock, has a check of its own.
 */
export interface Case {
  readonly evidence: Circumstances
  readonly told: Told
  /** The reads that exist, the latest one last. */
  readonly reads: readonly Stored[]
  /** Absent if the target delivers its events nowhere. */
  readonly deliveries?: readonly Delivery[]
  /** What the gateway did, by its own record. Absent if it was not the harness's. */
  readonly ledger?: readonly LedgerLine[]
  /** The stops, with the answers of all customers. */
  readonly prices: Prices
  /** The promises of the service beyond stored data. */
  readonly features: ReadonlySet<Feature>
  readonly findings: Findings
}

/** How many things a check examined; null if it could not check, because the target or the run lacks that part. */
export interface Looked {
  readonly looked: number | null
  /** What was not checked, and why. */
  readonly because?: string
}

export const noRead = { looked: null, because: 'There was no final read.' } as const satisfies Looked

/** The customer of an order id, by its acknowledgement or, if there is none, by its stored row. */
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

/** The service's name of a state. */
export function stateOf ({ evidence: { states } }: Pick<Case, 'evidence'>, name: StateName): string {
  return states?.[name] ?? name
}
