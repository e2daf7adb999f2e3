import { Agent, get, request } from 'node:http'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { finished } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Counts, Example, Outcome } from './account.ts'
import type { Balancer, Settings } from './options.ts'

/** How many requests of each outcome are kept. */
const examplesMax = 3
/** The longest time between the two steps of a service that first ends its side of a connection and then closes it. */
const resetFollowsMs = 250

interface Seen {
  outcome: Outcome
  saw: string
  status?: number
}

/**
 * Keep-alive clients. Each sends one request after the other, and opens a new connection when an answer says that this
 * one closes.
 */
export class Load {
  readonly before = noCounts()
  readonly after = noCounts()
  readonly statuses: Record<string, number> = {}
  /** When the signal was sent, in ms of `performance.now()`. */
  signalledAt: number | undefined
  /** Resolves when each client has had one answer, or could not connect. */
  readonly warm: Promise<unknown>
  /** Resolves when no client sends requests any more. */
  readonly ended: Promise<unknown>
  readonly #url: URL
  readonly #settings: Settings
  readonly #underWay = new Set<ClientRequest>()
  readonly #examples: Array<Omit<Example, 'sentAt' | 'endedAt'> & { sent: number, ended: number }> = []
  #asked = 0
  #over = false
  #killed = false

  constructor (url: URL, settings: Settings) {
    this.#url = url
    this.#settings = settings
    const clients = Array.from({ length: settings.clients }, () => this.#client())
    this.warm = Promise.all(clients.map(({ warm }) => warm))
    this.ended = Promise.all(clients.map(({ ended }) => ended))
    if (settings.balancer !== undefined) void this.#balance(settings.balancer)
  }

  get inFlight (): number {
    return this.#underWay.size
  }

  /** The service is gone: the clients send nothing more. */
  end (): void {
    this.#over = true
    // The kernel would retry for a second, in which nothing will start to listen.
    for (const asked of this.#underWay) if (asked.socket?.connecting === true) asked.destroy()
  }

  /** The requests that are still under way will get no answer. */
  kill (): void {
    this.#over = this.#killed = true
    for (const asked of this.#underWay) asked.destroy()
  }

  examples (): Example[] {
    const since = this.signalledAt ?? 0
    return this.#examples.map(({ sent, ended, ...example }) => ({ ...example, sentAt: Math.round(sent - since), endedAt: Math.round(ended - since) }))
  }

  #client (): { warm: Promise<void>, ended: Promise<void> } {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const first = this.#ask(agent)
    const rest = async (): Promise<void> => {
      let outcome = await first
      while (!this.#over && outcome !== 'unconnected') outcome = await this.#ask(agent)
      agent.destroy()
    }
    return { warm: first.then(() => {}), ended: rest() }
  }

  async #ask (agent: Agent): Promise<Outcome> {
    const { method = 'GET', path, headers = {}, body } = this.#settings.request(this.#asked++)
    const url = path === undefined ? this.#url : new URL(path, this.#url)
    const sent = performance.now()
    const asked = request(url, { agent, method, headers })
    this.#underWay.add(asked)
    asked.end(body)
    const { outcome, saw, status } = await this.#seen(asked)
    this.#underWay.delete(asked)

    const ended = performance.now()
    ;(this.signalledAt === undefined ? this.before : this.after)[outcome]++
    if (status !== undefined) this.statuses[status] = (this.statuses[status] ?? 0) + 1
    if (outcome !== 'answered' && this.#examples.filter(example => example.outcome === outcome).length < examplesMax) {
      this.#examples.push({ outcome, request: `${method} ${url.pathname}${url.search}`, sent, ended, saw })
    }
    return outcome
  }

  #seen (asked: ClientRequest): Promise<Seen> {
    return new Promise(resolve => {
      let connection: Connection | undefined
      asked.once('socket', socket => { connection = new Connection(socket) })
      asked.once('response', response => {
        response.resume()
        finished(response, error => {
          connection?.release()
          if (error == null) resolve(this.#whole(response))
          else resolve(this.#killed ? { outcome: 'hung', saw: 'a part of an answer' } : { outcome: 'cut', saw: `${String(response.statusCode)}, then the end of the connection` })
        })
      })
      asked.once('error', (error: NodeJS.ErrnoException) => {
        const saw = [error.code, error.syscall].join(' ').trim()
        if (connection?.connected !== true) resolve({ outcome: 'unconnected', saw })
        else if (this.#killed) resolve({ outcome: 'hung', saw: 'nothing' })
        else if (connection.hasAnswered) resolve({ outcome: 'cut', saw: 'a part of an answer' })
        // After an orderly end Node's error names no system call; after a reset it does.
        else if (error.syscall === undefined) resolve({ outcome: 'abandoned', saw: 'the end of the connection' })
        else resolve({ outcome: 'unread', saw })
      })
    })
  }

  #whole ({ statusCode: status = 0, headers }: IncomingMessage): Seen {
    const saw = String(status)
    if (this.#settings.accepts(status)) return { outcome: 'answered', saw, status }
    return { outcome: status === 503 && headers['retry-after'] !== undefined ? 'refused' : 'failed', saw, status }
  }

  async #balance ({ readiness, interval, fall }: Required<Balancer>): Promise<void> {
    const url = new URL(readiness, this.#url)
    for (let fallen = 0; fallen < fall && !this.#over;) {
      await delay(interval, undefined, { ref: false })
      const status = await statusOf(url) ?? 0
      fallen = status >= 200 && status < 300 ? 0 : fallen + 1
    }
    this.#over = true
  }
}

/** What the connection of a request shows about it. */
class Connection {
  connected: boolean
  readonly #socket: Socket
  readonly #readBefore: number

  constructor (socket: Socket) {
    this.#socket = socket
    this.#readBefore = socket.bytesRead
    this.connected = !socket.connecting
    socket.once('connect', this.#connect)
    socket.push = this.#push
  }

  get hasAnswered (): boolean {
    return this.#socket.bytesRead > this.#readBefore
  }

  /** The connection is used for other requests. */
  release (): void {
    this.#socket.off('connect', this.#connect)
    this.#socket.push = Socket.prototype.push
  }

  readonly #connect = (): void => { this.connected = true }

  /**
   * Holds back the orderly end of a connection with a request under way. If a reset follows, a write fails, and the
   * request with it. If none follows, the service had read the request, and Node gets the end.
   */
  readonly #push = (chunk: unknown): boolean => {
    const socket = this.#socket
    const pass = (): boolean => Socket.prototype.push.call(socket, chunk)
    if (chunk !== null || this.hasAnswered) return pass()
    setTimeout(() => socket.write('\r\n', error => error == null && pass()), resetFollowsMs)
    return false
  }
}

/** The status that the URL answers, on a connection of its own; undefined if it does not answer. */
export function statusOf (url: URL): Promise<number | undefined> {
  return new Promise(resolve => {
    const asked = get(url, { agent: false }, response => {
      response.resume()
      finished(response, error => resolve(error == null ? response.statusCode : undefined))
    })
    asked.once('error', () => resolve(undefined))
    asked.setTimeout(1_000, () => asked.destroy())
  })
}

function noCounts (): Counts {
  return { answered: 0, failed: 0, refused: 0, cut: 0, abandoned: 0, unread: 0, unconnected: 0, hung: 0 }
}
