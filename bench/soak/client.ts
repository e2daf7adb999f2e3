import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** What a client saw of one request. */
export interface Attempt {
  readonly id: string
  readonly outcome: 'answered' | 'refused' | 'unanswered' | 'left' | 'not connected'
  /** The client's port, by which the service knows the connection; undefined if there was none. */
  readonly port: number | undefined
}

/** Sends one request after the other on a keep-alive connection, and reconnects at once if the connection is lost. */
export class Client {
  readonly attempts: Attempt[] = []
  readonly #name: string
  readonly #port: number
  readonly #next: () => number
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })
  #stopConnecting: (() => void) | undefined

  constructor (name: string, port: number, next: () => number) {
    this.#name = name
    this.#port = port
    this.#next = next
  }

  /** Runs until nothing listens any more. */
  async run (): Promise<void> {
    let outcome
    do {
      const attempt = await this.#send(`${this.#name}-${this.attempts.length}`)
      this.attempts.push(attempt)
      outcome = attempt.outcome
    } while (outcome !== 'not connected')
    this.#agent.destroy()
  }

  /** The service has exited, which the kernel would show only a second later. Open connections end by themselves. */
  serviceGone (): void {
    this.#stopConnecting?.()
  }

  #send (id: string): Promise<Attempt> {
    const post = this.#next() < 0.5
    const leavesAfter = this.#next() < 0.05 ? this.#next() * 100 : undefined
    // Most requests take a few ms, some up to 100. A client that leaves does so during a long one.
    const ms = leavesAfter === undefined ? Math.round(100 ** this.#next()) : 250
    return new Promise(resolve => {
      let port: number | undefined
      const end = (outcome: Attempt['outcome']): void => {
        this.#stopConnecting = undefined
        leaving.abort()
        resolve({ id, outcome, port })
      }
      const sending = request({
        agent: this.#agent,
        port: this.#port,
        method: post ? 'POST' : 'GET',
        path: `/orders?id=${id}&ms=${ms}`,
        headers: post ? { 'Content-Type': 'application/json' } : {}
      })
      this.#stopConnecting = () => sending.destroy()
      sending.on('socket', socket => {
        const connected = (): void => {
          port = socket.localPort
          this.#stopConnecting = undefined
        }
        if (socket.connecting) socket.once('connect', connected)
        else connected()
      })
      sending.on('response', response => {
        response.resume()
        response.on('close', () => end(!response.complete ? 'unanswered' : response.statusCode === 200 ? 'answered' : 'refused'))
      })
      sending.on('error', () => end(port === undefined ? 'not connected' : 'unanswered'))
      sending.end(post ? '{"sku":"tea"}' : undefined)

      const leaving = new AbortController()
      if (leavesAfter !== undefined) {
        sleep(leavesAfter, undefined, { signal: leaving.signal }).then(() => {
          if (port === undefined) return
          end('left')
          sending.destroy()
        }, () => {})
      }
    })
  }
}
