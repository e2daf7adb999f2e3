import type { HistoryFile } from '../history-file.ts'
import { now, type Completion, type Operation, type Purpose, type Time } from '../history.ts'
import type { Target } from '../target.ts'
import { classify, type Ending } from './classify.ts'
import { Connection, type Manner } from './connection.ts'
import type { Counts } from './settings.ts'

/** A request for a client to send. */
export interface Asked {
  readonly purpose: Purpose
  readonly operation: Operation
  /** When the request was due. */
  readonly scheduled: Time
  readonly manner?: Manner
}

export interface ClientsOptions {
  readonly target: Pick<Target, 'request' | 'understand'>
  readonly urls: readonly [string, ...string[]]
  readonly clients: number
  /** ms. Default: 20,000. */
  readonly timeoutMs?: number | undefined
  readonly history: HistoryFile
  /** The last operation number that is in use. Default: 0. */
  readonly lastOp?: number
}

/** The clients, and the record of their requests and answers. */
export class Clients {
  readonly connections: readonly Connection[]
  /** ms. */
  readonly timeoutMs: number
  readonly #target: ClientsOptions['target']
  readonly #history: HistoryFile
  #lastOp: number
  readonly #counts = { invoked: 0, ok: 0, fail: 0, info: 0 }

  constructor ({ target, urls, clients, timeoutMs = 20_000, history, lastOp = 0 }: ClientsOptions) {
    this.#target = target
    this.#history = history
    this.#lastOp = lastOp
    this.timeoutMs = timeoutMs
    this.connections = Array.from({ length: clients }, (_, i) => new Connection(urls[i % urls.length] ?? urls[0], timeoutMs))
  }

  get counts (): Omit<Counts, 'acknowledged'> {
    const { invoked, ok, fail, info } = this.#counts
    return { invoked, ok, fail, info, inFlight: invoked - ok - fail - info }
  }

  /** Resolves when the request is over and recorded. */
  async ask (asked: Asked, connection: Connection): Promise<Completion> {
    const { operation, manner } = asked
    const request = this.#target.request(operation)
    if (request === undefined) throw new Error(`The target makes no request of ${operation.kind}. Nothing was sent; the load must not ask for it.`)
    const op = this.#invoke(asked)
    let sent: Time | undefined
    const ending = await connection.send(request, { ...manner, onSent: () => { sent = now() } })
    return this.#complete(op, operation, ending, sent)
  }

  /** The request was due so long ago that its client has left without sending a byte. */
  giveUp (asked: Asked): void {
    this.#complete(this.#invoke(asked), asked.operation, { error: 'timeout', sent: false })
  }

  async close (): Promise<void> {
    await Promise.all(this.connections.map(connection => connection.close()))
  }

  #invoke ({ purpose, operation, scheduled }: Asked): number {
    const op = ++this.#lastOp
    this.#counts.invoked++
    this.#history.append({ type: 'invoke', op, at: now(), scheduled, purpose, operation })
    return op
  }

  #complete (op: number, operation: Operation, ending: Ending, sent?: Time): Completion {
    const at = now()
    const { type, ...rest } = classify(this.#target.understand, operation, ending)
    const completion = { type, op, at, ...sent !== undefined && { sent }, ...rest }
    this.#counts[type]++
    this.#history.append(completion)
    return completion
  }
}
