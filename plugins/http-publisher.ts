import { context, propagation } from '@opentelemetry/api'
import type { OrderMessage, Publisher } from '../orders/publisher.ts'
import { bearer, type Token } from './outbound.ts'

export interface HttpPublisherOptions {
  /** Takes a POST with one or more events and answers 2xx once it has stored them. Any other answer: it has stored none. */
  url: string
  /** Sent as Authorization: Bearer. */
  token?: Token
}

/** How much of an error's answer is kept, for a column and the log, in characters. */
const wordsMax = 200

/**
 * Publishes the events of orders over HTTP: CloudEvents 1.0 in the batched content mode of its HTTP binding. Knative, Azure
 * Event Grid and the bridges of most brokers accept it.
 */
export function httpPublisher ({ url, token }: HttpPublisherOptions): Publisher {
  const contentType = { 'content-type': 'application/cloudevents-batch+json; charset=utf-8' }
  return {
    async publish (messages, signal) {
      // The trace of the call; each event carries its own.
      const traced: Record<string, string> = { ...contentType, ...bearer(token) }
      propagation.inject(context.active(), traced)
      const [response, words] = await post(url, { headers: traced, signal, body: JSON.stringify(messages.map(cloudEvent)) })
      if (!response.ok) throw new Error(`EVENTS_URL answered ${response.status}${words === '' ? '' : `: ${words.slice(0, wordsMax)}`}`)
    }
  }
}

/** Each delivery of an event has the same `source` and `id`, by which a consumer finds repetitions (CloudEvents 1.0, "id"). */
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
    // CloudEvents' extension for distributed tracing.
    ...traceparent !== undefined && { traceparent },
    data: message
  }
}

async function post (url: string, request: RequestInit): Promise<[Response, words: string]> {
  try {
    // A redirect would send the token elsewhere.
    const response = await fetch(url, { ...request, method: 'POST', redirect: 'error' })
    return [response, await response.text()]
  } catch (error) {
    // fetch() only says that it failed; its cause has the reason.
    const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error
    throw new Error(`EVENTS_URL gave no whole answer: ${reason instanceof Error ? reason.message : String(reason)}`, { cause: error })
  }
}
