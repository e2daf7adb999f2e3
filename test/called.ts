import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

export interface Received {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: string
}

/** Returns an answer; or does something else with the response, or nothing. */
export type Behaviour = (request: Received, response: ServerResponse) => { status: number, body?: unknown, headers?: Record<string, string> } | void

export interface Called {
  url: string
  received: Received[]
  /** Resolves when this many requests have come in. */
  reached (count: number): Promise<void>
  behave (behaviour: Behaviour): void
  /** Stops listening, and ends the open connections. */
  stop (): Promise<void>
}

/** Starts another service, for the service under test to call. */
export async function startCalled (t: Test, behaviour: Behaviour): Promise<Called> {
  const received: Received[] = []
  const waiting = new Set<() => void>()
  const server = createServer((request, response) => {
    void text(request).then(body => {
      const one = { method: request.method ?? '', path: request.url ?? '', headers: request.headers, body }
      received.push(one)
      for (const look of waiting) look()
      const answer = behaviour(one, response)
      if (answer === undefined) return
      const payload = answer.body === undefined || typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body)
      response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers }).end(payload)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = async (): Promise<void> => {
    const closed = server.listening ? once(server, 'close') : undefined
    server.close()
    server.closeAllConnections()
    await closed
  }
  t.teardown(stop)
  return {
    url: `http://127.0.0.1:${port}`,
    received,
    async reached (count) {
      await new Promise<void>(resolve => {
        const look = (): void => {
          if (received.length < count) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      })
    },
    behave (next) {
      behaviour = next
    },
    stop
  }
}

export const lost: Behaviour = (_request, response) => { response.destroy() }
export const hangs: Behaviour = () => {}
