import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'

/**
 * Spoils a service without a change of its source: it sits in the process, between the service and HTTP, its database driver,
 * its signals or its clock. So it works on every service on Node with the same API, and no change of the service's source
 * removes it.
 */
export interface Saboteur {
  /** Called before the service gets the request, whose headers it may change. If it returns an answer, the service never gets the request. */
  asked?: (asked: Asked, known: Known) => Answer | undefined
  /** Replaces the answer; undefined leaves it as it is. */
  answered?: (asked: Asked, answer: Answer, known: Known) => Answer | undefined
  /** Replaces one event of a stream; undefined leaves it as it is. */
  streamed?: (event: Event, stream: Stream) => readonly string[] | undefined
  /** Called once, before the service's own program. */
  install?: (job: Job) => void
  /** How often it acts for each customer. Default 3: a proof must find a few among many. */
  readonly limit?: number
}

export interface Job {
  /** Whether it is meant for this customer, and has not acted often enough yet. */
  may: (customer: string) => boolean
  /** Must be called each time that it has spoiled something; '' if that belongs to no customer in particular. */
  did: (customer: string) => void
}

export interface Asked {
  readonly method: string
  /** The path without its query. */
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingHttpHeaders
  /** '' if the request does not name one. */
  readonly customer: string
  /** Whether a signal to end has arrived. */
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
  /** The text of the stream, with the empty line that ends the event. */
  readonly text: string
}

export interface Stream {
  /** What the answers to all customers have shown, this one included. */
  readonly all: ReadonlySet<Stream>
  readonly customer: string
  push: (text: string) => void
}

/** What answers have shown up to now. */
export interface Known {
  /** By id, as last shown. */
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

/** The settings of the preload, from its environment. */
export interface Mission {
  /** The name of a saboteur. */
  readonly name: string
  /** The customer that it spoils the service for; null: everybody. */
  readonly customer: string | null
}
