import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** The part of an OTLP request that the sink reads. */
interface ExportTraceServiceRequest {
  resourceSpans: Array<{ scopeSpans: Array<{ scope: { name: string }, spans: Array<{ kind: number }> }> }>
}

/** `SPAN_KIND_SERVER` of OTLP. */
const serverKind = 2
/** A log service is some way off, in ms. */
const logsTakeMs = 100

export interface Sink {
  tracesUrl: string
  logsUrl: string
  /** Requests whose span has arrived. */
  readonly requests: number
  readonly lastLine: string | undefined
  close (): Promise<void>
}

/** A stand-in that takes traces as a collector does, and lines as a log service does. */
export async function startSink (): Promise<Sink> {
  let requests = 0
  let lastLine: string | undefined
  const server = createServer(async (request, response) => {
    const body = await textOf(request)
    if (request.url === '/v1/traces') requests += serverSpans(JSON.parse(body) as ExportTraceServiceRequest)
    if (request.url === '/logs') {
      await delay(logsTakeMs)
      lastLine = body.trimEnd().split('\n').at(-1)
    }
    response.setHeader('content-type', 'application/json').end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    tracesUrl: `${origin}/v1/traces`,
    logsUrl: `${origin}/logs`,
    get requests () { return requests },
    get lastLine () { return lastLine },
    async close () {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    }
  }
}

async function textOf (request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += String(chunk)
  return text
}

function serverSpans ({ resourceSpans }: ExportTraceServiceRequest): number {
  const ofServer = resourceSpans.flatMap(({ scopeSpans }) => scopeSpans)
    .filter(({ scope }) => scope.name === '@opentelemetry/instrumentation-http')
    .flatMap(({ spans }) => spans)
    .filter(({ kind }) => kind === serverKind)
  return ofServer.length
}
