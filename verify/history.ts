/**
 * What the clients did and saw, one JSON object a line, only ever appended. The line of an invocation is written before
 * its bytes leave, so that nothing can have been asked that is not here. Three outcomes, after Jepsen: `ok` it happened,
 * `fail` it did not, `info` nobody knows. An invocation without a completion is `info`.
 */
export type Line = Invocation | Completion | Streamed

/** ms since the epoch, with fractions. The load and the harness read the same clock. */
export type Time = number

export type Operation =
  | { readonly kind: 'place', readonly customer: string, readonly key: string, readonly order: OrderAsked }
  | { readonly kind: 'pay' | 'cancel' | 'read', readonly customer: string, readonly id: string }
  | { readonly kind: 'list', readonly customer: string, readonly cursor?: string }

/** Why the load did it: what is expected of a service depends on none of these, but coverage does. */
export type Purpose = 'new' | 'replay' | 'twin' | 'reuse' | 'scarce' | 'hot' | 'hang-up' | 'slow-body' | 'settle' | 'read' | 'transition'

export interface Invocation {
  readonly type: 'invoke'
  /** Counts from 1; a completion names it. */
  readonly op: number
  readonly at: Time
  /** When it was due. Latency counts from here, not from when a busy client got round to it. */
  readonly scheduled: Time
  readonly purpose: Purpose
  readonly operation: Operation
}

export interface Completion {
  readonly type: 'ok' | 'fail' | 'info'
  readonly op: number
  readonly at: Time
  readonly status?: number
  /** The stable name of a refusal, for example `out-of-stock`. */
  readonly problem?: string
  /**
   * The code of the socket's error, or `closed` (an end in order, without an answer), `cut` (an answer that was not whole),
   * `timeout`, `hang-up` (the client left), `not-understood` (a whole answer that the target could not read).
   */
  readonly error?: string
  /** What the answer said. */
  readonly order?: OrderAnswered
  /** Of a page: the orders on it. */
  readonly ids?: readonly string[]
  /** Of a page: the cursor of the page after it. */
  readonly next?: string
  /** The answer was that of an earlier request. */
  readonly replayed?: boolean
}

/** An event that came on an open event stream. */
export interface Streamed {
  readonly type: 'event'
  readonly at: Time
  readonly customer: string
  readonly event: { readonly orderId: string, readonly version: number, readonly type: string }
}

export interface OrderAsked {
  readonly currency: string
  readonly items: ReadonlyArray<{ readonly sku: string, readonly quantity: number }>
  readonly reference?: string
}

/** Money in minor units. */
export interface OrderAnswered {
  readonly id: string
  readonly status: string
  readonly version: number
  readonly currency: string
  readonly items: ReadonlyArray<{ readonly sku: string, readonly quantity: number, readonly unitPrice: number }>
  readonly total: number
  readonly reference: string | null
}

/** An answer that came whole. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** ms since the epoch, on the clock that every process of this machine shares. */
export function now (): Time {
  return performance.timeOrigin + performance.now()
}
