import type { Answer, Completion, OrderAnswered, OrderAsked, Operation, Time } from './history.ts'

/**
 * All that the harness knows about a service: how to start it, how to send it requests, how to read its answers, and what it has
 * stored. A target file is a module whose default export is a target, or a description in YAML or JSON (docs/prove-your-own.md).
 * The harness and the load, which is a process of its own, both load it. Optional parts that are absent are not tried, and the
 * report says that they were not checked.
 */
export interface Target {
  readonly name: string
  readonly limits?: Limits
  /** The products. Default: ./products.ts. */
  readonly products?: readonly Product[]
  /** The limits of an order of this service. Default: all that the load can send. */
  readonly orders?: {
    /** How many different products an order can have. */
    readonly items?: number
    /** 1: the service does not tell customers apart. */
    readonly customers?: 1
  }
  /** What else the service lacks, in words. It is not checked, and the report says so. */
  readonly lacks?: readonly string[]
  /** Absent if the service keeps its orders elsewhere; faults of a database are refused then. */
  readonly postgres?: PostgresNeeded
  /** Called once, before the first instance starts: schema, catalogue, accounts. */
  prepare?: (run: Run) => Promise<void>
  /** Called once, when the service is ready, before the load: the catalogue, if only the service itself can store it. */
  stock?: (run: Run, url: string) => Promise<void>
  /** Starts one instance. It must listen on `instance.port` of 127.0.0.1 and end at SIGTERM. */
  start: (run: Run, instance: Instance) => Command
  /** Path on the service's port: 2xx as soon as it may get traffic, anything else while it must not. */
  readonly readiness: string
  /** Reads when the phases of a stop began, in ms from the signal, from all output of an instance between its start and its exit. */
  phases?: (log: string) => { readonly draining: number, readonly closing: number, readonly closed: number } | undefined
  /** Reads the service's own report of a stop from all output of an instance between its start and its exit. */
  report?: (log: string) => StopReport | undefined
  /** The request of an operation; undefined if the service does not have it. */
  request: (operation: Operation) => Request | undefined
  /** The meaning of a whole answer. The harness judges resets, timeouts and cut answers. */
  understand: (operation: Operation, answer: Answer) => Understood
  /** Server-sent events of one customer: turns one message of the stream into its event. */
  stream?: { request: (customer: string) => Request, understand: (data: string) => { orderId: string, version: number, type: string } | undefined }
  /** The requests of hostile clients. Absent: those of the load. `large`: the largest answer. `past`: a stream of all past events. */
  readonly hostile?: { readonly large: Request, readonly past?: Request }
  /** Present if the service sends its events to the harness's consumer at `run.eventsUrl`: reads the events of one request. */
  consumer?: { understand: (body: string) => readonly Delivery[] }
  /** Present if the service charges through the harness's gateway at `run.gateway`, in scenarios with one. Notifications go to this path of the service. */
  readonly gateway?: { readonly notifications: string }
  /**
   * Reads everything that is stored, in one consistent read and not through the service. It may return pages, so that a long run
   * does not have to fit into memory; the sequence is the same each time.
   */
  snapshot: (run: Run) => Promise<Snapshot> | AsyncIterable<Partial<Snapshot>>
  /** The transitions of an order: for each status, those that may follow. The first status of a path is that of `placed`. */
  readonly transitions?: Readonly<Record<string, readonly string[]>>
  /** The service's names of the states of an order. States without an entry have verify's names. */
  readonly states?: States
  /** What the service promises beyond storing orders. Absent: the features that its answers show at least once. */
  readonly features?: readonly Feature[]
}

/** The contents of a whole answer. `orders`: all that a page shows of its orders. */
export type Understood = Pick<Completion, 'type' | 'problem' | 'order' | 'product' | 'payment' | 'refund' | 'ids' | 'next' | 'replayed' | 'etag' | 'location' | 'requestId'> & {
  readonly orders?: readonly OrderAnswered[]
}

export type StateName = 'placed' | 'paid' | 'shipped' | 'delivered' | 'cancelled'
export type States = Readonly<Partial<Record<StateName, string>>>

/**
 * reference: an order keeps the customer's own name for it. replayed: a retry's answer is marked. etag, if-match: the version of
 * an order. location: the URL of the order that a 201 made. item-order: items come back in the requested sequence. own-orders: no
 * customer can access another's order. own-keys: two customers may use the same key. staff: only staff ships and delivers.
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
  /** Time from the start of an instance until it is ready. Default 30,000. */
  readonly start?: number
  /** Time from the signal to the exit, after which it is killed. Default 60,000. */
  readonly stop?: number
  /** Time until the client of a request gives up. Default 20,000. */
  readonly answer?: number
  /** Time until the stored data has come to rest. Default 90,000. */
  readonly rest?: number
}

export interface PostgresNeeded {
  /** Absolute paths. */
  binaries: () => { initdb: string, postgres: string }
  /** Settings for `postgres -c`. */
  readonly settings?: Readonly<Record<string, string>>
}

/** What the harness provides for a run. */
export interface Run {
  /** Absolute path of an empty folder of the run's own. */
  readonly directory: string
  /** The URL of a database that exists and is empty at first; it may lead through a proxy. '' without `postgres`. */
  readonly databaseUrl: string
  /** The same database without any proxy: for preparation and for the final read. '' without `postgres`. */
  readonly directDatabaseUrl: string
  /** The URL that takes a POST of events, and answers with a 2xx once they are on disk. Absent if the target has no `consumer`. */
  readonly eventsUrl?: string
  /** The payment gateway. Absent if the scenario has none, or the target does not use one. */
  readonly gateway?: { readonly url: string, readonly token: string, readonly notifySecret: string }
  readonly products: readonly Product[]
}

export interface Instance {
  /** 0, 1, 2 … */
  readonly index: number
  /** Free when it starts. */
  readonly port: number
  readonly opsPort: number
  /** Whether a balancer checks its readiness and routes to it: it must then go on accepting until the balancer has noticed its stop. */
  readonly balanced: boolean
  /** The port of a balancer's agent check, if there is one. */
  readonly agentPort?: number
}

export interface Command {
  readonly command: readonly [string, ...string[]]
  /** Default: the harness's own. */
  readonly cwd?: string
  /** Its whole environment. The harness adds PATH and a time zone (TZ), another one at each start. */
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

/** The stored data of the service at one moment. */
export interface Snapshot {
  readonly orders: readonly OrderStored[]
  /** Absent: stock is not checked. */
  readonly products?: ReadonlyArray<{ readonly sku: string, readonly available: number }>
  /** The outbox. Absent: events are not checked. */
  readonly events?: readonly EventStored[]
  /** The calls to a gateway, and their outcomes. Absent: money is not checked. */
  readonly payments?: readonly PaymentStored[]
  readonly refunds?: readonly RefundStored[]
}

/** What a service stores before it asks a gateway to charge; the gateway knows it by its `id`. */
export interface PaymentStored {
  readonly id: string
  readonly orderId: string
  /** In minor units. */
  readonly amount: number
  readonly currency: string
  /** requested, unknown, capturing, voiding: the gateway may have been called, and its answer is unknown. The others are the gateway's states. */
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
  /** The version of the order after the event. The first is 1. */
  readonly version: number
  /** The status of the order after the event. */
  readonly type: string
  /** What happened, if it was no change of status: consumers get the event under this name. */
  readonly event?: string
  /** Whether it was delivered to its consumers. */
  readonly delivered: boolean
}

/** An event as a consumer gets it: `type` is what happened. */
export type Delivery = Omit<EventStored, 'delivered' | 'event'>

export type { Answer, Completion, OrderAnswered, OrderAsked, Operation }
