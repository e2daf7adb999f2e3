import { setTimeout as sleep } from 'node:timers/promises'
import type { StopAccount } from 'fastify-drain/test'
import { reportOf } from './judge.ts'
import type { Beside } from './recipe.ts'

const retryMs = 50
const enoughMs = 30_000
/** RFC 6455, 7.4.1: the endpoint is going away, so that a client knows to connect again. */
const goingAway = 1001

/** How a subscription ended. */
interface End {
  /** As `Date.now()`. */
  at: number
  events: number
  /** Undefined if it ended as it should. */
  fault: string | undefined
}

/**
 * A stream of server-sent events, which must end whole.
 *
 * @param over tells a client that it need not connect again
 */
export function serverSentEvents (url: string, over: RegExp): Beside {
  return subscription(`the stream ${new URL(url).pathname}`, async signal => {
    const response = await fetch(url, { headers: { accept: 'text/event-stream' }, signal })
    if (response.status !== 200 || response.body === null) throw new Error(`status ${response.status}`)
    let text = ''
    let fault: string | undefined
    try {
      for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) text += chunk
    } catch (error) {
      fault = `was cut: ${String(error)}`
    }
    if (over.test(text)) fault ??= `was told that it is over: ${text.slice(-200)}`
    return { at: Date.now(), events: text.match(/^data: ?\{/gm)?.length ?? 0, fault }
  })
}

export interface Protocol {
  protocols?: string[]
  /** The messages that the client sends. */
  says: readonly object[]
  event: RegExp
  /** Tells a client that its subscription is over, or has failed, so that it does not ask for it again. */
  over: RegExp
}

/** A subscription over a WebSocket, which must be closed with 1001 and without a message about its end. */
export function webSocket (url: string, { protocols = [], says, event, over }: Protocol): Beside {
  return subscription(`the WebSocket ${new URL(url).pathname}`, signal => new Promise((resolve, reject) => {
    const socket = new WebSocket(url.replace(/^http/, 'ws'), protocols)
    let open = false
    let events = 0
    let fault: string | undefined
    signal.addEventListener('abort', () => socket.close())
    socket.addEventListener('open', () => {
      open = true
      for (const message of says) socket.send(JSON.stringify(message))
    })
    socket.addEventListener('message', ({ data }) => {
      if (event.test(String(data))) events++
      if (over.test(String(data))) fault ??= `was told that it is over: ${String(data)}`
    })
    socket.addEventListener('close', ({ code }) => {
      if (!open) return reject(new Error(`closed with ${code} before it was open`))
      if (code !== goingAway) fault ??= `was closed with ${code} instead of ${goingAway}`
      resolve({ at: Date.now(), events, fault })
    })
  }))
}

/** All of them as one. */
export function together (...all: readonly Beside[]): Beside {
  return { ended: async account => (await Promise.all(all.map(({ ended }) => ended(account)))).flat() }
}

function subscription (what: string, open: (signal: AbortSignal) => Promise<End>): Beside {
  const over = new AbortController()
  const end = untilUp(open, AbortSignal.any([over.signal, AbortSignal.timeout(enoughMs)]))
  // `ended` looks at it when all is over.
  end.catch(() => {})
  return {
    async ended (account) {
      over.abort()
      const { at, events, fault } = await end.catch((error: unknown): End => ({ at: 0, events: 0, fault: `was never open: ${String(error)}` }))
      if (fault !== undefined) return [`${what} ${fault}.`]
      if (events === 0) return [`${what} brought nothing.`]
      return early(account, at) ? [`${what} ended before the stop was closing.`] : []
    }
  }
}

/** Whether it ended before closing began, although a lame duck serves subscriptions as well. */
function early (account: StopAccount, at: number): boolean {
  const report = reportOf(account)
  return report?.startedAt == null || at < Date.parse(report.startedAt) + (report.phases.closing ?? 0) - retryMs
}

async function untilUp (open: (signal: AbortSignal) => Promise<End>, signal: AbortSignal): Promise<End> {
  for (;;) {
    try {
      return await open(signal)
    } catch (error) {
      if (signal.aborted) throw error
      await sleep(retryMs)
    }
  }
}
