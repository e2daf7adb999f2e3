import { once } from 'node:events'
import { request } from 'node:http'
import type { Agent } from 'node:http'
import { request as requestSecurely } from 'node:https'
import type { Client } from '../../plugins/drain/test/connect.ts'
import { Fault, must } from './fault.ts'

export interface Asking {
  method?: string
  headers?: Record<string, string>
  body?: string
  /** Default: a connection for this request alone. */
  agent?: Agent
}

export interface Answer {
  /** 0: there was no answer, or only a part of one. */
  status: number
  /** The Connection header. */
  connection: string
  /** The status, or one word for what went wrong. */
  says: string
}

/** Never throws: an error is what the client saw, and so is part of the result. */
export function ask (url: string, { method = 'GET', headers = {}, body, agent }: Asking = {}): Promise<Answer> {
  return new Promise(resolve => {
    let status = 0
    let connection = ''
    const cut = (says: string): void => resolve({ status: 0, connection, says })
    const send = url.startsWith('https:') ? requestSecurely : request
    const req = send(url, { method, headers, agent: agent ?? false, rejectUnauthorized: false }, res => {
      status = res.statusCode ?? 0
      connection = res.headers.connection ?? ''
      res.on('error', () => cut('cut'))
      res.on('close', () => {
        if (res.complete) resolve({ status, connection, says: String(status) })
        else cut('cut')
      })
      res.resume()
    })
    req.on('error', (error: NodeJS.ErrnoException) => cut(error.code ?? error.message))
    req.end(body)
  })
}

/** For a request that must be answered whatever happens to the service. */
export async function answered (answer: Promise<Answer>): Promise<Answer> {
  const seen = await answer
  must(seen.says === '200', `answer ${seen.says}`)
  return seen
}

/** The same for request number n of a connection; its answer is JSON. */
export async function answeredOn (client: Client, nth = 1): Promise<void> {
  const whole = (): boolean => client.received.split(/(?=HTTP\/1\.1 )/)[nth - 1]?.endsWith('}') ?? false
  let end: string | undefined
  while (!whole() && end === undefined) end = await Promise.race([client.ended, once(client.socket, 'data').then(() => undefined)])
  const says = client.responses[nth - 1]?.slice(0, 3) ?? end
  must(says === '200', `answer ${says}`)
  must(whole(), 'cut')
}

/** Waits for the promise; a result after more than `ms` is a fault. */
export async function inTime<T> (ms: number, promise: Promise<T>, fault: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_resolve, reject) => { timer = setTimeout(() => reject(new Fault(fault)), ms) })
    ])
  } finally {
    clearTimeout(timer)
  }
}
