import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'

/**
 * Something that spoils a service from outside of its source: in its process, but between it and what it stands on, which is
 * HTTP, the driver of its database, its signals or its clock. So it spoils every service that runs on Node and speaks as this
 * one does, and no change of the service's source takes it away.
 */
export interface Saboteur {
  /** Before the service hears of the request, whose headers it may change. An answer: the service never hears of it. */
  asked?: (asked: Asked, known: Known) => Answer | undefined
  /** What the client gets in the answer's place; undefined: the answer. */
  answered?: (asked: Asked, answer: Answer, known: Known) => Answer | undefined
  /** What the client gets in the place of one event of its stream; undefined: the event. */
  streamed?: (event: Event, stream: Stream) => readonly string[] | undefined
  /** Once, before the service's own program. */
  install?: (job: Job) => void
  /** How often for each customer. Default 3: a proof must find the few among the many. */
  readonly limit?: number
}

export interface Job {
  /** Whether it has to do with this customer, and has not done enough yet. */
  may: (customer: string) => boolean
  /** To be called each time that it has spoiled something; '' where it is nobody's in particular. */
  did: (customer: string) => void
}

export interface Asked {
  readonly method: string
  /** Without its query. */
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  /** '' where it does not say. */
  readonly customer: string
  /** A signal to end has come. */
  readonly stopping: boolean
}

export interface Answer {
  readonly status: number
  readonly headers: OutgoingHttpHeaders
  readonly body: string
}

export interface Event {
  readonly orderId: string
  readonly version: number
  readonly type: string
  /** As it stands in the stream, with the empty line that ends it. */
  readonly text: string
}

export interface Stream {
  /** Of every customer, this one among them. */
  readonly all: ReadonlySet<Stream>
  readonly customer: string
  push: (text: string) => void
}

/** What answers have shown so far. */
export interface Known {
  /** By id, as it was last shown. */
  readonly orders: ReadonlyMap<string, Order>
}

export interface Order {
  readonly id: string
  readonly customer: string
  readonly status: string
  readonly version: number
  readonly total: number
  readonly createdAt: string
  readonly items: ReadonlyArray<{ readonly sku: string, readonly quantity: number, readonly unitPrice: number }>
}

/** What the preload is told by its environment. */
export interface Mission {
  /** Of a saboteur. */
  readonly name: string
  /** Whom it spoils the service for; null: everybody. */
  readonly customer: string | null
}
