/**
 * What the clients did and saw, one JSON object per line, append-only. The line of an invocation is written before its bytes
 * are sent, so that the history contains every request. There are three outcomes, after Jepsen: `ok`: it happened; `fail`: it
 * did not happen; `info`: unknown. An invocation without a completion is `info`.
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

/** `customer` sends the request. `staff`: with the rights of staff, who may access all orders. */
export interface OnOrder {
  readonly kind: 'read' | Transition
  readonly customer: string
  readonly id: string
  readonly staff?: true
  /** The If-Match header of a transition. */
  readonly ifMatch?: string
}

/** For staff: refunds money of the order `id`, once for each key. Without an amount, it refunds the rest. */
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
  /** Sets the stock, which was `seen` at the version in `ifMatch`. */
  | { readonly kind: 'stock', readonly customer: string, readonly sku: string, readonly name: string, readonly currency: string, readonly unitPrice: number, readonly stock: number, readonly seen: number, readonly ifMatch: string }

export type Transition = 'pay' | 'ship' | 'deliver' | 'cancel'

/** Requests whose answer is an order. */
export function isOnOrder (operation: Operation): operation is OnOrder {
  return operation.kind === 'read' || isTransition(operation)
}

export function isTransition (operation: Operation): operation is OnOrder & { readonly kind: Transition } {
  const { kind } = operation
  return kind === 'pay' || kind === 'cancel' || kind === 'ship' || kind === 'deliver'
}

/** The If-Match that names no version at all. */
export const noVersion = '"of-no-version"'

/** Why the load sent the request. Coverage depends on it, and what is expected of a service does not. */
export type Purpose =
  | 'new' | 'replay' | 'twin' | 'reuse' | 'shared-key' | 'scarce' | 'hot' | 'hang-up' | 'slow-body' | 'settle'
  | 'read' | 'transition' | 'precondition' | 'fulfil' | 'twin-pay' | 'refund' | 'intrude' | 'catalogue'

export interface Invocation {
  readonly type: 'invoke'
  /** Counts from 1; a completion names it. */
  readonly op: number
  readonly at: Time
  /** When the request was due. Latency counts from here, and not from the time that a busy client sent it. */
  readonly scheduled: Time
  readonly purpose: Purpose
  readonly operation: Operation
}

export interface Completion {
  readonly type: 'ok' | 'fail' | 'info'
  readonly op: number
  readonly at: Time
  /** When its bytes went to the socket. Absent if none was sent. */
  readonly sent?: Time
  readonly status?: number
  /** The stable name of a refusal, for example `out-of-stock`. */
  readonly problem?: string
  /**
   * The code of the socket's error, or `closed` (an orderly end without an answer), `cut` (an incomplete answer), `timeout`,
   * `hang-up` (the client left), `not-understood` (a whole answer that the target could not read).
   */
  readonly error?: string
  /** The order of the answer. */
  readonly order?: OrderAnswered
  /** The product of the answer. */
  readonly product?: ProductAnswered
  /** The order is being paid, or will be shipped as soon as its money is captured: the answer says where to ask, and not the outcome. */
  readonly payment?: { readonly id: string, readonly state: string }
  readonly refund?: RefundAnswered
  /** The headers with these names. */
  readonly etag?: string
  readonly location?: string
  /** The answer said that its connection ends with it. */
  readonly closes?: boolean
  /** The id by which the service logs the request and reports it in a stop. */
  readonly requestId?: string
  /** For a page: the ids of its orders, if it shows no more. */
  readonly ids?: readonly string[]
  /** For a page: what it showed of each order. */
  readonly shown?: readonly Shown[]
  /** For a page: the cursor of the next page. */
  readonly next?: string
  /** The answer says that it repeats the answer to an earlier request. */
  readonly replayed?: boolean
}

/** An order on a page, shortened: complete pages would make up most of a history. */
export interface Shown {
  readonly id: string
  readonly version: number
  readonly status: string
  /** `digestOf` the contents of the order. */
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

/** A change of an event stream. */
export interface StreamState {
  readonly type: 'stream'
  readonly at: Time
  readonly customer: string
  /**
   * `opened`: it was answered with 200. `ended`: that connection is over. `gap`: the service said that earlier events may be
   * missing. `closed`: the client has closed it.
   */
  readonly state: 'opened' | 'ended' | 'gap' | 'closed'
  /** For `opened`: the id of the last event, after which it was to resume. Absent: from now on. */
  readonly after?: string
}

/** An event that arrived on an open event stream. */
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
  /** Present if the service gives it. */
  readonly customer?: string
  readonly createdAt?: string
}

/** A whole answer. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** ms since the epoch, by the clock that all processes of this machine share. */
export function now (): Time {
  return performance.timeOrigin + performance.now()
}
