import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

interface Attribute { key: string, value: { stringValue?: string, intValue?: number, boolValue?: boolean, arrayValue?: { values: Array<Attribute['value']> } } }
interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  kind: number
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: Attribute[]
  links: Array<{ traceId: string, spanId: string, attributes: Attribute[] }>
  events: Array<{ name: string, attributes: Attribute[] }>
  status: { code?: number }
}

export type Span = ReturnType<typeof readable>

/** Receives spans as a collector does (OTLP, http/json), and keeps them. */
export async function startCollector (t: { teardown (end: () => void): unknown }) {
  const spans: Span[] = []
  const resources: Array<Record<string, unknown>> = []
  const heads: Array<Record<string, unknown>> = []
  let hangs = false
  const server = createServer((request, response) => {
    heads.push({ path: request.url, ...request.headers })
    if (hangs) return
    void json(request).then(body => {
      for (const { resource, scopeSpans } of (body as {
        resourceSpans: Array<{ resource: { attributes: Attribute[] }, scopeSpans: Array<{ spans: OtlpSpan[] }> }>
      }).resourceSpans) {
        resources.push(valuesOf(resource.attributes))
        spans.push(...scopeSpans.flatMap(scope => scope.spans.map(readable)))
      }
      response.setHeader('content-type', 'application/json').end('{}')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    resources,
    /** The path and the headers of each request. */
    heads,
    /** Accepts requests from now on, and answers none. */
    hang () { hangs = true }
  }
}

function readable ({ traceId, spanId, parentSpanId, name, kind, startTimeUnixNano, endTimeUnixNano, attributes, links, events, status }: OtlpSpan) {
  const startMs = Number(startTimeUnixNano) / 1e6
  return {
    traceId,
    spanId,
    parentSpanId,
    name,
    kind: ['', 'internal', 'server', 'client', 'producer', 'consumer'][kind],
    startMs,
    durationMs: Number(BigInt(endTimeUnixNano) - BigInt(startTimeUnixNano)) / 1e6,
    attributes: valuesOf(attributes),
    links: links.map(link => ({ traceId: link.traceId, spanId: link.spanId, attributes: valuesOf(link.attributes) })),
    events: events.map(event => ({ name: event.name, attributes: valuesOf(event.attributes) })),
    isError: status.code === 2
  }
}

function valuesOf (attributes: Attribute[] = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, valueOf(value)]))
}

function valueOf ({ stringValue, intValue, boolValue, arrayValue }: Attribute['value']): unknown {
  return arrayValue?.values.map(valueOf) ?? stringValue ?? intValue ?? boolValue
}
