import { setTimeout as delay } from 'node:timers/promises'
import { context, propagation, type Span } from '@opentelemetry/api'
import { bulkhead, circuitBreaker, CircuitState, handleWhen, SamplingBreaker, type CircuitBreakerPolicy } from 'cockatiel'
import { buildConnector, Pool, type Dispatcher } from 'undici'
import { NotCalled, type Call } from '../orders/ports.ts'
import { traceCall } from '../tracing/call-spans.ts'

/** Calls to one service under way at once, and calls that wait for one of them to end. */
const atOnceMax = 64
const waitingMax = 16

/** A breaker opens if half of the last ten seconds' calls failed, and there were at least five. */
const sampledMs = 10_000
const failedShare = 0.5
const callsLeast = 5

/** An open breaker lets one call through after this, in ms. */
const breakMs = 1_000

/** Attempts of one call. Before a retry it waits for a random time below `backoffMs`, doubled each time. */
const attemptsMax = 3
const backoffMs = 25

/** The least time that an attempt needs, in ms. */
const attemptMs = 20

const defaultAnswerMax = 65_536

export interface OutboundLog {
  info (details: object, message: string): void
  warn (details: object, message: string): void
}

export interface OutboundOptions {
  /** Its name in errors and in the log, such as the setting of its URL. */
  name: string
  /** Without a query. Paths are appended to it. */
  url: string
  /** Sent with every call; a function is called for each. */
  headers?: Record<string, string> | (() => Record<string, string>)
  /** The longest that a call may take with all its attempts, in ms. */
  timeoutMs: number
  log: OutboundLog
  onEnd?: ((ended: EndedCall) => void) | undefined
  /** How long an open breaker lets nothing through, in ms. Default: 1,000. */
  breakMs?: number
  /** The largest answer, in bytes. Default: 65,536. */
  answerMax?: number
}

export type CallOutcome = 'answered' | 'not-called' | 'unknown'
export interface EndedCall { name: string, kind: string, outcome: CallOutcome, durationMs: number }

export interface Asked<T> {
  /** Each kind has a breaker of its own. */
  kind: string
  method: Dispatcher.HttpMethod
  /** Percent-encoded. */
  path: string
  headers?: Record<string, string>
  body?: string
  /** @throws Unclear if the answer proves nothing by the contract */
  read: (answer: Answer) => T
}

export interface Answer {
  status: number
  /** undefined: not JSON. */
  body: unknown
}

/** A schema that TypeBox compiled. */
export interface Contracted<T> {
  Check (value: unknown): value is T
  Errors (value: unknown): Array<{ instancePath: string, message: string }>
}

/** A token, or a function that returns the current one. */
export type Token = string | undefined | (() => string | undefined)

export function bearer (token: Token): Record<string, string> {
  const now = typeof token === 'function' ? token() : token
  return now === undefined ? {} : { authorization: `Bearer ${now}` }
}

/** The other side may or may not have done what it was asked. */
export class Unclear extends Error {
  override readonly name = 'Unclear'
  /** undefined: there was no whole answer. */
  readonly status: number | undefined

  constructor (message: string, { status, cause }: { status?: number, cause?: unknown } = {}) {
    super(message, cause === undefined ? {} : { cause })
    this.status = status
  }
}

/** No connection could be made: an unknown name, a closed port, a bad certificate. */
class NotConnected extends NotCalled {}

/** A call that has the shortest of these times, in ms. */
export function callWithin (...limitsMs: number[]): Call {
  const remainingMs = Math.max(0, Math.floor(Math.min(...limitsMs)))
  return { signal: AbortSignal.timeout(remainingMs), remainingMs }
}

/**
 * Another service, called over HTTP. Each call has a deadline, a bulkhead bounds their number, and a breaker stops a kind of
 * call that fails often. Every call must be safe to repeat: it is retried after a failure, while there is time and such retries
 * are few.
 *
 * A call throws NotCalled if no attempt reached the other side. After any other error the outcome is unknown.
 */
export class Outbound {
  readonly #options: OutboundOptions
  readonly #pool: Pool
  readonly #url: URL
  readonly #basePath: string
  readonly #bulkhead = bulkhead(atOnceMax, waitingMax)
  readonly #breakers = new Map<string, CircuitBreakerPolicy>()
  readonly #budget = new RetryBudget()

  constructor (options: OutboundOptions) {
    this.#options = options
    this.#url = new URL(options.url)
    const { origin, pathname } = this.#url
    this.#basePath = pathname.replace(/\/$/, '')
    this.#pool = new Pool(origin, {
      connections: atOnceMax,
      connect: connectorOf(options),
      allowH2: false,
      maxResponseSize: options.answerMax ?? defaultAnswerMax,
      // The deadline of the call bounds both.
      headersTimeout: 0,
      bodyTimeout: 0
    })
  }

  async ask<T> (asked: Asked<T>, call: Call): Promise<T> {
    const { name, timeoutMs, onEnd } = this.#options
    const deadline = new Deadline(call, timeoutMs)
    this.#budget.countCall()
    let outcome: CallOutcome = 'answered'
    try {
      return await this.#attempts(asked, deadline)
    } catch (error) {
      outcome = error instanceof NotCalled ? 'not-called' : 'unknown'
      throw error
    } finally {
      deadline.clear()
      onEnd?.({ name, kind: asked.kind, outcome, durationMs: deadline.elapsedMs })
    }
  }

  /** The answer's body, checked against the contract. @throws Unclear if it breaks the contract */
  bodyOf<T> (check: Contracted<T>, { status, body }: Answer, kind: string): T {
    if (check.Check(body)) return body
    // Where the fault is, without the value: that may be a customer's data.
    const faults = check.Errors(body).slice(0, 5).map(({ instancePath, message }) => `${instancePath} ${message}`.trim())
    throw this.againstContract({ status, kind, faults })
  }

  /** Logs an answer that breaks the contract. @returns the error to throw */
  againstContract (details: { status: number, kind: string, faults: string[] }): Unclear {
    const { name, log } = this.#options
    log.warn(details, `The answer of ${name} breaks its contract. Whether it did what it was asked is unknown.`)
    return new Unclear(`${name} answered ${details.status}, and the answer breaks its contract: ${details.faults.join('; ')}.`, { status: details.status })
  }

  /** Ends calls under way at once, with an unknown outcome. */
  async close (): Promise<void> {
    await this.#pool.destroy()
  }

  async #attempts<T> (asked: Asked<T>, deadline: Deadline): Promise<T> {
    // Once an attempt may have reached the other side, the whole call stays unclear.
    let unclear: unknown
    for (let attempt = 1; ; attempt++) {
      const beganMs = deadline.elapsedMs
      try {
        return await this.#attempt(asked, deadline, attempt)
      } catch (error) {
        if (!(error instanceof NotCalled)) unclear = error
        const waitMs = Math.random() * backoffMs * 2 ** (attempt - 1)
        // The next attempt may take as long as this one.
        const neededMs = waitMs + Math.max(attemptMs, deadline.elapsedMs - beganMs)
        if (!mayPass(error) || attempt === attemptsMax || deadline.leftMs < neededMs || !this.#budget.take()) throw unclear ?? error
        await delay(waitMs, undefined, { signal: deadline.signal }).catch(() => { throw unclear ?? error })
      }
    }
  }

  async #attempt<T> (asked: Asked<T>, deadline: Deadline, attempt: number): Promise<T> {
    const { name } = this.#options
    const { kind, method } = asked
    const breaker = this.#breakerOf(kind)
    let isBegun = false
    // Otherwise a call that waits would run in the context of the call whose end lets it go.
    const run = context.bind(context.active(), async (): Promise<T> => {
      // In this state the breaker would make this call wait for the one that it lets through.
      if (breaker.state === CircuitState.HalfOpen) throw new NotCalled()
      return await breaker.execute(async () => {
        isBegun = true
        return await traceCall({ method, kind, url: this.#url, attempt }, async span => asked.read(await this.#send(asked, deadline, span)))
      })
    })
    try {
      // The bulkhead looks at the signal only when the call's turn comes.
      return await Promise.race([this.#bulkhead.execute(run, deadline.signal), deadline.passed])
    } catch (error) {
      if (isBegun) throw error instanceof DeadlinePassed ? new Unclear(`${name} did not answer in time. It may have done what it was asked.`) : error
      const why = error instanceof DeadlinePassed || deadline.signal.aborted
        ? 'no time was left'
        : breaker.state === CircuitState.Closed ? `${atOnceMax} calls are under way and ${waitingMax} wait` : 'it failed too often a moment ago'
      throw new NotCalled(`${name} was not called: ${why}. Nothing was done there.`)
    }
  }

  async #send (asked: Asked<unknown>, deadline: Deadline, span: Span | undefined): Promise<Answer> {
    const { name, headers } = this.#options
    const sent: Record<string, string> = {
      accept: 'application/json',
      ...typeof headers === 'function' ? headers() : headers,
      ...asked.body !== undefined && { 'content-type': 'application/json' },
      ...asked.headers,
      'x-request-timeout-ms': String(Math.max(0, Math.floor(deadline.leftMs)))
    }
    propagation.inject(context.active(), sent)
    try {
      const { statusCode: status, body } = await this.#pool.request({
        method: asked.method,
        path: this.#basePath + asked.path,
        headers: sent,
        body: asked.body ?? null,
        signal: deadline.signal
      })
      span?.setAttribute('http.response.status_code', status)
      const text = await body.text()
      // A redirect counts as unclear: following it would send the token elsewhere.
      if (status < 200 || (status >= 300 && status < 400) || status >= 500) throw new Unclear(`${name} answered ${status}. It may have done what it was asked.`, { status })
      return { status, body: parsed(text) }
    } catch (error) {
      if (error instanceof NotCalled || error instanceof Unclear) throw error
      throw new Unclear(`${name} gave no whole answer (${reasonOf(error)}). It may have done what it was asked.`, { cause: error })
    }
  }

  #breakerOf (kind: string): CircuitBreakerPolicy {
    const known = this.#breakers.get(kind)
    if (known !== undefined) return known
    const { name, log } = this.#options
    const breaker = circuitBreaker(handleWhen(isFailure), {
      halfOpenAfter: this.#options.breakMs ?? breakMs,
      breaker: new SamplingBreaker({ threshold: failedShare, duration: sampledMs, minimumRps: callsLeast * 1_000 / sampledMs })
    })
    breaker.onBreak(() => log.warn({ kind }, `${name} fails too often. No calls of this kind are made for a while; then one is tried.`))
    breaker.onReset(() => log.info({ kind }, `${name} answers again. Calls of this kind are made again.`))
    this.#breakers.set(kind, breaker)
    return breaker
  }
}

/** Whether the other side is at fault, and not this call. */
function isFailure (error: unknown): boolean {
  return !(error instanceof Unclear && error.status !== undefined && error.status >= 400 && error.status < 500)
}

/** Whether a retry may succeed. After an answer that breaks the contract it hardly will. */
function mayPass (error: unknown): boolean {
  return error instanceof NotConnected || (error instanceof Unclear && (error.status === undefined || error.status >= 500))
}

function connectorOf ({ name, timeoutMs }: OutboundOptions): buildConnector.connector {
  // Half of the time: if a host drops packets, the call ends as not connected and not as unclear.
  const connect = buildConnector({ timeout: Math.ceil(timeoutMs / 2), allowH2: false })
  return (options, callback) => connect(options, (...[error, socket]) => {
    if (error === null) callback(null, socket)
    else callback(new NotConnected(`${name} was not reached (${reasonOf(error)}). Nothing was done there.`, { cause: error }), null)
  })
}

function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The code, if there is one: it names the kind of fault and holds no data. */
function reasonOf (error: unknown): string {
  if (!(error instanceof Error)) return 'unknown reason'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}

class DeadlinePassed extends Error {}

/** The end of a call's time: its caller's, or the one that this service allows. */
class Deadline {
  readonly #controller = new AbortController()
  readonly #beganAt = performance.now()
  readonly #timeoutMs: number
  readonly #call: Call
  readonly #timer: NodeJS.Timeout
  readonly #abort = (): void => this.#controller.abort(new DeadlinePassed())
  readonly passed: Promise<never>

  constructor (call: Call, timeoutMs: number) {
    this.#call = call
    this.#timeoutMs = Math.min(call.remainingMs, timeoutMs)
    this.#timer = setTimeout(this.#abort, this.#timeoutMs)
    this.passed = new Promise((_resolve, reject) => this.signal.addEventListener('abort', () => reject(this.signal.reason)))
    // Otherwise a rejection that nobody awaits would end the process.
    this.passed.catch(() => {})
    if (call.signal.aborted || this.#timeoutMs <= 0) this.#abort()
    else call.signal.addEventListener('abort', this.#abort)
  }

  get signal (): AbortSignal {
    return this.#controller.signal
  }

  get elapsedMs (): number {
    return performance.now() - this.#beganAt
  }

  get leftMs (): number {
    return this.signal.aborted ? 0 : this.#timeoutMs - this.elapsedMs
  }

  clear (): void {
    clearTimeout(this.#timer)
    this.#call.signal.removeEventListener('abort', this.#abort)
  }
}

/** Allows retries for a fifth of the last ten seconds' calls, or ten: more would add load to an overloaded service. */
class RetryBudget {
  static readonly #seconds = 10
  static readonly #share = 0.2
  static readonly #least = 10
  readonly #counted = Array.from({ length: RetryBudget.#seconds }, () => ({ second: -1, calls: 0, retries: 0 }))

  countCall (): void {
    this.#now().calls++
  }

  /** @returns whether one more retry may be made */
  take (): boolean {
    const now = this.#now()
    let calls = 0
    let retries = 0
    for (const counted of this.#counted) {
      if (counted.second <= now.second - RetryBudget.#seconds) continue
      calls += counted.calls
      retries += counted.retries
    }
    if (retries >= Math.max(RetryBudget.#least, RetryBudget.#share * calls)) return false
    now.retries++
    return true
  }

  #now (): { second: number, calls: number, retries: number } {
    const second = Math.floor(performance.now() / 1_000)
    const place = second % RetryBudget.#seconds
    const counted = this.#counted[place]
    if (counted !== undefined && counted.second === second) return counted
    const fresh = { second, calls: 0, retries: 0 }
    this.#counted[place] = fresh
    return fresh
  }
}
