import type { Answer, Completion, OrderAnswered, OrderAsked, Operation, Time } from './history.ts'

/**
 * All that the harness knows of a service: how to start it, how to ask it, how to understand it, and what it has stored.
 * A target file is a module whose default export is one, or a description in YAML or JSON (docs/prove-your-own.md), from
 * which one is made. The harness and the load, which is a process of its own, both load it; what is optional and absent
 * is not tried, and the report says that it was not checked.
 */
export interface Target {
  readonly name: string
  readonly limits?: Limits
  /** What is sold. Default: ./products.ts. */
  readonly products?: readonly Product[]
  /** What an order of this service can be. Default: all that the load knows of. */
  readonly orders?: {
    /** How many different products it can have. */
    readonly items?: number
    /** 1: the service does not tell customers apart. */
    readonly customers?: 1
  }
  /** What else the service has not, in words. It is not checked, and the report says so. */
  readonly lacks?: readonly string[]
  /** Absent: the service keeps its orders elsewhere, and faults of a database are refused. */
  readonly postgres?: PostgresNeeded
  /** Once, before the first instance starts: schema, catalogue, accounts. */
  prepare?: (run: Run) => Promise<void>
  /** Once, when the service is ready, before the load: the catalogue, where only the service itself can take it. */
  stock?: (run: Run, url: string) => Promise<void>
  /** One instance. It must listen on `instance.port` of 127.0.0.1 and end at SIGTERM. */
  start: (run: Run, instance: Instance) => Command
  /** Path on the service's port: 2xx as soon as traffic may come, anything else while it must not. */
  readonly readiness: string
  /** When the phases of a stop began, in ms from the signal, out of all that an instance printed from its start to its exit. */
  phases?: (log: string) => { readonly draining: number, readonly closing: number, readonly closed: number } | undefined
  /** What the service itself reports of a stop, out of all that an instance printed from its start to its exit. */
  report?: (log: string) => StopReport | undefined
  /** The request of an operation; undefined where the service has no such thing. */
  request: (operation: Operation) => Request | undefined
  /** What an answer that came whole means. Resets, timeouts and cut answers are the harness's to judge. */
  understand: (operation: Operation, answer: Answer) => Understood
  /** Server-sent events of one customer: one message of the stream as the event that it tells of. */
  stream?: { request: (customer: string) => Request, understand: (data: string) => { orderId: string, version: number, type: string } | undefined }
  /** What clients that mean no good ask for. Absent: what the load asks for. `large`: the largest answer there is. `past`: a stream of all that ever happened. */
  readonly hostile?: { readonly large: Request, readonly past?: Request }
  /** Where the service hands its events to a consumer of the harness's own, at `run.eventsUrl`: the events that one of its requests brings. */
  consumer?: { understand: (body: string) => readonly Delivery[] }
  /** The service asks a gateway of the harness's own for money, at `run.gateway`, where a scenario has one. Notifications go to this path of the service. */
  readonly gateway?: { readonly notifications: string }
  /**
   * Everything that is stored, in one consistent read, not through the service. It may come in pages, each with some of it, so that
   * nobody has to hold all of a long run; in the same order each time.
   */
  snapshot: (run: Run) => Promise<Snapshot> | AsyncIterable<Partial<Snapshot>>
  /** The steps that an order may take: from each status, those that may follow; the first of a path is that of `placed`. */
  readonly transitions?: Readonly<Record<string, readonly string[]>>
  /** What the service calls the states that an order may be in. Those that are not named are called as here. */
  readonly states?: States
  /** What the service promises beyond storing orders. Absent: whatever its answers show at least once. */
  readonly features?: readonly Feature[]
}

/** Of an answer that came whole. `orders`: of a page, all that it says of them. */
export type Understood = Pick<Completion, 'type' | 'problem' | 'order' | 'product' | 'payment' | 'refund' | 'ids' | 'next' | 'replayed' | 'etag' | 'location' | 'requestId'> & {
  readonly orders?: readonly OrderAnswered[]
}

export type StateName = 'placed' | 'paid' | 'shipped' | 'delivered' | 'cancelled'
export type States = Readonly<Partial<Record<StateName, string>>>

/**
 * reference: an order keeps the customer's own name for it. replayed: a retry's answer says that it is one. etag, if-match: the
 * version of an order. location: the order that a 201 made. item-order: items come back as they were asked for. own-orders:
 * nobody reaches an order of somebody else. own-keys: two customers may use one key. staff: only staff ships and delivers.
 * request-id: every answer has one. report: a stop is reported, with request ids.
 */
export type Feature =
  | 'reference' | 'replayed' | 'etag' | 'if-match' | 'location' | 'item-order' | 'own-orders' | 'own-keys' | 'staff' | 'request-id' | 'report'

/** Counts, and the ids of requests: the first 1,000 of each. */
export interface StopReport {
  readonly startedAt: Time
  readonly exitCode: number | null
  readonly requests: Readonly<Record<'completed' | 'refused' | 'unstarted' | 'stalled' | 'abandoned', { readonly count: number, readonly ids: readonly string[] }>>
}

/** How long things may take, in ms. */
export interface Limits {
  /** From the start of an instance until it is ready. Default 30,000. */
  readonly start?: number
  /** From the signal to the exit; then it is killed. Default 60,000. */
  readonly stop?: number
  /** Of a request, until its client gives up. Default 20,000. */
  readonly answer?: number
  /** Until what is stored has come to rest. Default 90,000. */
  readonly rest?: number
}

export interface PostgresNeeded {
  /** Absolute paths. */
  binaries: () => { initdb: string, postgres: string }
  /** Settings for `postgres -c`. */
  readonly settings?: Readonly<Record<string, string>>
}

/** What the harness has made for a run. */
export interface Run {
  /** An empty folder of the run's own, absolute. */
  readonly directory: string
  /** Of a database that exists and is empty at first; may lead through a proxy. '' without `postgres`. */
  readonly databaseUrl: string
  /** The same database without any proxy: for preparation and for the final read. '' without `postgres`. */
  readonly directDatabaseUrl: string
  /** Takes a POST of events, and answers with a 2xx once they are on disk. Absent where the target has no `consumer`. */
  readonly eventsUrl?: string
  /** Whom to ask for money. Absent where the scenario has no gateway, or the target no use for one. */
  readonly gateway?: { readonly url: string, readonly token: string, readonly notifySecret: string }
  readonly products: readonly Product[]
}

export interface Instance {
  /** 0, 1, 2 … */
  readonly index: number
  /** Free when it starts. */
  readonly port: number
  readonly opsPort: number
  /** A balancer asks for its readiness and routes to it: it must go on accepting until the balancer has looked away. */
  readonly balanced: boolean
  /** Where a balancer's agent check asks, if there is one. */
  readonly agentPort?: number
}

export interface Command {
  readonly command: readonly [string, ...string[]]
  /** Default: the harness's own. */
  readonly cwd?: string
  /** All of its environment; PATH is added, and a time zone (TZ), another at each start. */
  readonly env: Readonly<Record<string, string>>
}

export interface Request {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export interface Product {
  readonly sku: string
  readonly name: string
  /** In minor units. */
  readonly unitPrice: number
  /** ISO 4217. */
  readonly currency: string
  readonly stock: number
}

/** What the service holds, at one moment. */
export interface Snapshot {
  readonly orders: readonly OrderStored[]
  /** Absent: stock is not checked. */
  readonly products?: ReadonlyArray<{ readonly sku: string, readonly available: number }>
  /** The outbox. Absent: events are not checked. */
  readonly events?: readonly EventStored[]
  /** What was asked of a gateway, and what came of it. Absent: money is not checked. */
  readonly payments?: readonly PaymentStored[]
  readonly refunds?: readonly RefundStored[]
}

/** What a service stores before it asks a gateway to charge; `id` is what the gateway knows it by. */
export interface PaymentStored {
  readonly id: string
  readonly orderId: string
  /** In minor units. */
  readonly amount: number
  readonly currency: string
  /** requested, unknown, capturing, voiding: the gateway may have been asked, and has not said. The others are its words. */
  readonly state: 'requested' | 'unknown' | 'pending' | 'authorised' | 'capturing' | 'charged' | 'declined' | 'voiding' | 'voided'
}

export interface RefundStored {
  readonly id: string
  readonly paymentId: string
  readonly orderId: string
  /** In minor units. */
  readonly amount: number
  readonly currency: string
  readonly state: 'requested' | 'unknown' | 'pending' | 'refunded' | 'failed'
}

export interface OrderStored extends OrderAnswered {
  readonly customer: string
  readonly key: string
}

export interface EventStored {
  readonly orderId: string
  /** Of the order, after the event. The first is 1. */
  readonly version: number
  /** The status that the order then had. */
  readonly type: string
  /** What happened, where that is not that it came to this status: its consumers are told of it by this name. */
  readonly event?: string
  /** Handed to its consumers. */
  readonly delivered: boolean
}

/** An event, as a consumer is told of it: `type` is what happened. */
export type Delivery = Omit<EventStored, 'delivered' | 'event'>

export type { Answer, Completion, OrderAnswered, OrderAsked, Operation }
