import { constants } from 'node:os'
import { StopTestError } from './errors.ts'

/** A request of the load. */
export interface StopRequest {
  /** Default `'GET'`. */
  method?: string
  /** Path and query, resolved against `url`. Default: those of `url`. */
  path?: string
  headers?: Record<string, string>
  body?: string
}

/** A load balancer that checks readiness, and stops sending when the service is not ready. */
export interface Balancer {
  /** The readiness check, resolved against `url`. 2xx means ready. */
  readiness: string
  /** ms between two checks. Default 1,000. */
  interval?: number
  /** How many failed checks in a row take the service out. Default 1. */
  fall?: number
}

export interface StopOptions {
  /**
   * The command that starts the service, without a shell. A string is split at its spaces and nowhere else; an argument
   * that contains spaces needs the array form. The signal goes to this process alone, as from a supervisor.
   */
  command: string | readonly string[]
  /**
   * The URL of the load: `http:`, on this machine. It may be only a path if `ready` is a pattern whose first group
   * catches the origin. The service can then choose its own port, and be tested beside others.
   */
  url: string
  /**
   * How the kit learns that the service is ready: a URL that answers with a status below 500, or a pattern that a line of
   * its output matches. Default: `url`.
   */
  ready?: string | RegExp
  /** Default: that of this process. */
  cwd?: string
  /** Added to the environment of this process. */
  env?: Record<string, string>
  /** The request, or a function that makes the n-th request, counted from 0. Default: a GET of `url`. */
  request?: StopRequest | ((n: number) => StopRequest)
  /** Which status codes are a success. Default: those below 400, so that a load of 401s does not pass as a proof. */
  accepts?: (status: number) => boolean
  /** Keep-alive clients, each with one connection and one request under way. Default 20. */
  clients?: number
  /** ms of load before the signal; longer if a client has had no answer yet. Default 500. */
  loadFor?: number
  /** Default `'SIGTERM'`. */
  signal?: NodeJS.Signals
  /** ms from the signal to the exit; then the service is killed. Default 30,000. */
  exitWithin?: number
  /** Default 0. */
  exitCode?: number
  /** ms for the start, and as many again until each client has had an answer. Default 30,000. */
  startWithin?: number
  /**
   * Behind a balancer, the clients go on until it has taken the service out, and then stop. A connection refused before
   * that is a fault, and so is each connection closed with a request unread. Default: none. The clients then go on until
   * nothing listens any more: the first connection refused after the signal ends a client.
   */
  balancer?: Balancer
  /** What does not count as a fault. */
  allow?: {
    /** Requests refused with 503 and `Retry-After`. Default `false`. */
    refused?: boolean
    /** Connections closed with a request unread. Default: one for every two clients; 0 behind a balancer. */
    unread?: number
  }
  /** Calls the test off: the service is killed, and the promise rejects with ERR_STOP_ABORTED. */
  abort?: AbortSignal
}

export interface Settings {
  readonly command: readonly [string, ...string[]]
  readonly url: string
  readonly ready: string | RegExp
  readonly cwd: string | undefined
  readonly env: Record<string, string>
  readonly request: (n: number) => StopRequest
  readonly accepts: (status: number) => boolean
  readonly clients: number
  readonly loadFor: number
  readonly signal: NodeJS.Signals
  readonly exitWithin: number
  readonly exitCode: number
  readonly startWithin: number
  readonly balancer: Required<Balancer> | undefined
  readonly allow: { readonly refused: boolean, readonly unread: number }
  readonly abort: AbortSignal | undefined
}

/** @throws StopTestError ERR_STOP_OPTION */
export function readOptions (options: StopOptions): Settings {
  const [program = '', ...args] = typeof options.command === 'string' ? options.command.split(' ').filter(word => word !== '') : options.command
  if (program === '') throw unusable('`command` is empty')
  const { request = {}, balancer, signal = 'SIGTERM' } = options
  if (!(signal in constants.signals)) throw unusable(`\`signal\` is '${signal}', which is no signal of this system`)
  const ready = options.ready ?? options.url
  if (!(ready instanceof RegExp)) for (const url of [options.url, ready]) checkUrl(url)
  const clients = count('clients', options.clients ?? 20)
  if (clients === 0) throw unusable('`clients` is 0, and a stop that nobody loads proves nothing')

  return {
    command: [program, ...args],
    url: options.url,
    ready,
    cwd: options.cwd,
    env: options.env ?? {},
    request: typeof request === 'function' ? request : () => request,
    accepts: options.accepts ?? (status => status < 400),
    clients,
    loadFor: count('loadFor', options.loadFor ?? 500),
    signal,
    exitWithin: count('exitWithin', options.exitWithin ?? 30_000),
    exitCode: count('exitCode', options.exitCode ?? 0),
    startWithin: count('startWithin', options.startWithin ?? 30_000),
    balancer: balancer && { readiness: balancer.readiness, interval: count('balancer.interval', balancer.interval ?? 1_000), fall: count('balancer.fall', balancer.fall ?? 1) },
    allow: {
      refused: options.allow?.refused ?? false,
      unread: count('allow.unread', options.allow?.unread ?? (balancer === undefined ? Math.ceil(clients / 2) : 0))
    },
    abort: options.abort
  }
}

function checkUrl (url: string): void {
  if (!URL.canParse(url) || new URL(url).protocol !== 'http:') throw unusable(`'${url}' is no http: URL. A path alone needs a \`ready\` pattern whose first group catches the origin`)
}

function count (name: string, value: number): number {
  if (!Number.isInteger(value) || value < 0) throw unusable(`\`${name}\` must be a whole number of 0 or more, and is ${String(value)}`)
  return value
}

function unusable (what: string): StopTestError {
  return new StopTestError('ERR_STOP_OPTION', `${what}. Nothing was started: correct the option and run the test again.`)
}
