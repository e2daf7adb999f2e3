import { context, propagation } from '@opentelemetry/api'
import type { OrderMessage, Publisher } from '../orders/publisher.ts'
import { bearer, type Token } from './outbound.ts'

export interface HttpPublisherOptions {
  /** Takes a POST with one or more events, and answers with a 2xx once it has them for good. Anything else: it has none of them. */
  url: string
  /** Sent as Authorization: Bearer. */
  token?: Token
}

/** An answer's words are for a column and a line of the log, in characters. */
const wordsMax = 200

/**
 * Hands the events of orders to whoever takes them over HTTP: CloudEvents 1.0 in the batched content mode of its HTTP
 * binding, as Knative, Azure Event Grid and the bridges of most brokers take them.
 */
export function httpPublisher ({ url, token }: HttpPublisherOptions): Publisher {
  const contentType = { 'content-type': 'application/cloudevents-batch+json; charset=utf-8' }
  return {
    async publish (messages, signal) {
      // The trace of the call; that of each event is in the event.
      const traced: Record<string, string> = { ...contentType, ...bearer(token) }
      propagation.inject(context.active(), traced)
      const [response, words] = await post(url, { headers: traced, signal, body: JSON.stringify(messages.map(cloudEvent)) })
      if (!response.ok) throw new Error(`EVENTS_URL answered ${response.status}${words === '' ? '' : `: ${words.slice(0, wordsMax)}`}`)
    }
  }
}

/** `id` is the same at each delivery: with `source` it tells a consumer what it has seen (CloudEvents 1.0, "id"). */
function cloudEvent ({ traceparent, ...message }: OrderMessage) {
  const { orderId, version, type, at } = message
  return {
    specversion: '1.0',
    id: `${orderId}/${version}`,
    source: '/orders',
    type: `order.${type}`,
    subject: orderId,
    time: at,
    datacontenttype: 'application/json',
    // The extension for distributed tracing.
    ...traceparent !== undefined && { traceparent },
    data: message
  }
}

async function post (url: string, request: RequestInit): Promise<[Response, words: string]> {
  try {
    // A redirect would take the token along.
    const response = await fetch(url, { ...request, method: 'POST', redirect: 'error' })
    return [response, await response.text()]
  } catch (error) {
    // fetch() says no more than that it failed; its cause has the reason.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error
    throw new Error(`EVENTS_URL gave no whole answer: ${reason instanceof Error ? reason.message : String(reason)}`, { cause: error })
  }
}
