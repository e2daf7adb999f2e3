/**
 * What the clients did and saw, one JSON object a line, only ever appended. The line of an invocation is written before
 * its bytes leave, so that nothing can have been asked that is not here. Three outcomes, after Jepsen: `ok` it happened,
 * `fail` it did not, `info` nobody knows. An invocation without a completion is `info`.
 */
export type Line = Invocation | Completion | Streamed | StreamState

export function isCompletion (line: Line): line is Completion {
  return line.type === 'ok' || line.type === 'fail' || line.type === 'info'
}

/** ms since the epoch, with fractions. The load and the harness read the same clock. */
export type Time = number

export type Operation =
  | { readonly kind: 'place', readonly customer: string, readonly key: string, readonly order: OrderAsked }
  | OnOrder
  | { readonly kind: 'list', readonly customer: string, readonly cursor?: string, readonly walk?: number }
  | RefundAsked
  | OnProduct

/** `customer` is who asks. `staff`: with the rights of staff, who may reach everybody's orders. */
export interface OnOrder {
  readonly kind: 'read' | Transition
  readonly customer: string
  readonly id: string
  readonly staff?: true
  /** The value of the header If-Match, of a transition. */
  readonly ifMatch?: string
}

/** For staff: money of the order `id` is given back, once for each key. Without an amount, all that is left. */
export interface RefundAsked {
  readonly kind: 'refund'
  readonly customer: string
  readonly id: string
  readonly key: string
  /** In minor units. */
  readonly amount?: number
  readonly staff: true
}

/** For staff. */
export type OnProduct =
  | { readonly kind: 'product', readonly customer: string, readonly sku: string }
  /** Sets the price, and leaves the stock as it is. */
  | { readonly kind: 'price', readonly customer: string, readonly sku: string, readonly name: string, readonly currency: string, readonly unitPrice: number }
  /** Adds to the stock, once for each key. */
  | { readonly kind: 'restock', readonly customer: string, readonly key: string, readonly sku: string, readonly delta: number }
  /** Sets the stock, which was `seen` at the version that `ifMatch` names. */
  | { readonly kind: 'stock', readonly customer: string, readonly sku: string, readonly name: string, readonly currency: string, readonly unitPrice: number, readonly stock: number, readonly seen: number, readonly ifMatch: string }

export type Transition = 'pay' | 'ship' | 'deliver' | 'cancel'

/** What a request was about, where the answer is an order. */
export function isOnOrder (operation: Operation): operation is OnOrder {
  return operation.kind === 'read' || isTransition(operation)
}

export function isTransition (operation: Operation): operation is OnOrder & { readonly kind: Transition } {
  const { kind } = operation
  return kind === 'pay' || kind === 'cancel' || kind === 'ship' || kind === 'deliver'
}

/** What the load sends in If-Match to name no version at all. */
export const noVersion = '"of-no-version"'

/** Why the load did it: what is expected of a service depends on none of these, but coverage does. */
export type Purpose =
  | 'new' | 'replay' | 'twin' | 'reuse' | 'shared-key' | 'scarce' | 'hot' | 'hang-up' | 'slow-body' | 'settle'
  | 'read' | 'transition' | 'precondition' | 'fulfil' | 'twin-pay' | 'refund' | 'intrude' | 'catalogue'

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
  /** When its bytes went to the socket. Absent: none has left. */
  readonly sent?: Time
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
  /** What the answer said of a product. */
  readonly product?: ProductAnswered
  /** Of an order that is being paid, or shipped as soon as its money is taken: the answer says where to ask, and not what comes of it. */
  readonly payment?: { readonly id: string, readonly state: string }
  readonly refund?: RefundAnswered
  /** The headers of those names. */
  readonly etag?: string
  readonly location?: string
  /** The answer said that its connection ends with it. */
  readonly closes?: boolean
  /** By which the service logs the request and names it in the report of a stop. */
  readonly requestId?: string
  /** Of a page: the orders on it, where it tells no more of them. */
  readonly ids?: readonly string[]
  /** Of a page: what it showed of each order. */
  readonly shown?: readonly Shown[]
  /** Of a page: the cursor of the page after it. */
  readonly next?: string
  /** The answer was that of an earlier request. */
  readonly replayed?: boolean
}

/** An order on a page: a page with all that it said would make most of a history. */
export interface Shown {
  readonly id: string
  readonly version: number
  readonly status: string
  /** `digestOf` what it is an order of. */
  readonly digest: string
}

export interface RefundAnswered {
  readonly id: string
  readonly state: string
  /** In minor units. */
  readonly amount: number
}

export interface ProductAnswered {
  readonly sku: string
  /** In minor units. */
  readonly unitPrice: number
  readonly stock: number
}

/** What became of an event stream. */
export interface StreamState {
  readonly type: 'stream'
  readonly at: Time
  readonly customer: string
  /**
   * `opened`: it was answered with 200. `ended`: that connection is over. `gap`: the service said that it cannot vouch for
   * what came before. `closed`: the client wants no more.
   */
  readonly state: 'opened' | 'ended' | 'gap' | 'closed'
  /** Of `opened`: the id of the last event, which it was to go on from. Absent: from now on. */
  readonly after?: string
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
  /** Where the service says it. */
  readonly customer?: string
  readonly createdAt?: string
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
