import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'undici'
import type { Answer } from '../history.ts'
import type { Request } from '../target.ts'
import type { Ending } from './classify.ts'

/** Special behaviour of a client. */
export interface Manner {
  /** ms from the sending until the client hangs up. */
  readonly hangUpAfter?: number
  /** ms between the two halves of the body. */
  readonly bodyPauseMs?: number
}

interface Watched extends Manner {
  /** Called in the turn in which the first bytes go to the socket. */
  readonly onSent?: () => void
}

/**
 * A client with one keep-alive connection, which it reopens when needed. It sends one request at a time, and none twice: undici
 * repeats only requests that it has not begun to write.
 */
export class Connection {
  readonly #client: Client
  readonly #timeoutMs: number

  /** @param timeoutMs until it is connected, and again until the end of the answer */
  constructor (url: string, timeoutMs: number) {
    this.#timeoutMs = timeoutMs
    // undici's own timers for answers would be late by up to a second.
    this.#client = new Client(url, { pipelining: 1, connectTimeout: timeoutMs, headersTimeout: 0, bodyTimeout: 0 })
  }

  /** Never rejects. */
  send ({ method, path, headers, body }: Request, { hangUpAfter, bodyPauseMs, onSent }: Watched = {}): Promise<Ending> {
    const { promise, resolve } = Promise.withResolvers<Ending>()
    const timers: NodeJS.Timeout[] = []
    const chunks: Buffer[] = []
    let gaveUp: 'timeout' | 'hang-up' | undefined
    let sent = false
    let status: number | undefined
    let answerHeaders: Answer['headers'] = {}

    const end = (ending: Ending): void => {
      for (const timer of timers) clearTimeout(timer)
      resolve(ending)
    }
    const inTwoHalves = bodyPauseMs !== undefined && body !== undefined
    this.#client.dispatch({
      method,
      path,
      headers: inTwoHalves ? { ...headers, 'content-length': String(Buffer.byteLength(body)) } : headers,
      body: inTwoHalves ? Readable.from(halves(body, bodyPauseMs)) : body ?? null
    }, {
      // undici calls this just before it passes the bytes to the socket, in the same turn. Without this call, no byte was sent.
      onRequestStart: controller => {
        sent = true
        onSent?.()
        const giveUp = (why: typeof gaveUp): void => {
          gaveUp = why
          controller.abort(new Error(why))
        }
        timers.push(setTimeout(giveUp, this.#timeoutMs, 'timeout'))
        if (hangUpAfter !== undefined) timers.push(setTimeout(giveUp, hangUpAfter, 'hang-up'))
      },
      onResponseStart: (_, statusCode, received) => {
        // 100 Continue and 103 Early Hints come before the answer.
        if (statusCode < 200) return
        status = statusCode
        answerHeaders = received
      },
      onResponseData: (_, chunk) => { chunks.push(chunk) },
      onResponseEnd: () => end({ answer: { status: status ?? 0, headers: answerHeaders, body: Buffer.concat(chunks).toString() } }),
      onResponseError: (_, error) => end({ error: gaveUp ?? codeOf(error), sent, ...status !== undefined && { status } })
    })
    return promise
  }

  close (): Promise<void> {
    return this.#client.destroy()
  }
}

async function * halves (body: string, pauseMs: number): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(body)
  const half = bytes.length >> 1
  yield bytes.subarray(0, half)
  await delay(pauseMs)
  yield bytes.subarray(half)
}

function codeOf (error: NodeJS.ErrnoException): string {
  return error.code ?? error.name
}
