import { GroupCommit, type Carried, type Client, type GroupCommitOptions, type Unplaced } from '../commit/group-commit.ts'
import { uuidv7 } from '../commit/uuidv7.ts'
import { startIntake } from '../tracing/batch-spans.ts'
import { traceparentOf } from '../tracing/trace-context.ts'
import { fingerprintOf, type OrderRequest, type Placement } from './order.ts'

/** An order on its way to the database. */
export interface PendingOrder extends OrderRequest {
  /** UUIDv7; becomes the order's id if this request is the one that makes it. */
  id: string
  createdAt: Date
  /** SHA-256 of the request, in hex. */
  fingerprint: string
  /** The trace context of the request, if it is sampled. */
  traceparent?: string | undefined
}

export type IntakeOutcome = Placement | Unplaced

export type IntakeOptions = GroupCommitOptions<PendingOrder, Placement>

/** Places orders by group commit. */
export class Intake extends GroupCommit<PendingOrder, Placement> {
  constructor (options: IntakeOptions) {
    super(orders, options)
  }

  /**
   * Resolves once the outcome is known or the time is over; never rejects.
   *
   * @param client if it goes, its order is dropped, unless that is in a batch
   */
  place (request: OrderRequest, client?: Client): Promise<IntakeOutcome> {
    // One time for both, so that sorting by time and sorting by id never disagree.
    const createdAt = new Date()
    const span = startIntake()
    const order = { ...request, id: uuidv7(createdAt.getTime()), createdAt, fingerprint: fingerprintOf(request), traceparent: traceparentOf(span) }
    return this.submit(order, span, client)
  }
}

const provenByRow = new Set<IntakeOutcome['outcome']>(['created', 'replayed', 'key-reused'])

const orders: Carried<Placement> = {
  singular: 'order',
  plural: 'orders',
  isProvenByRow: ({ outcome }) => provenByRow.has(outcome),
  toldToTwin: placement => placement.outcome === 'created' ? { outcome: 'replayed', order: placement.order } : placement
}
