import type { Event, Saboteur } from './saboteur.ts'

/** Saboteurs that make event streams omit, reorder or invent events, or send them to the wrong customer. */
export const streams = {
  'stream-silent': { streamed: () => [], limit: Infinity },
  'stream-skips': { streamed: ({ version }) => version > 1 ? [] : undefined },
  'stream-skips-at-reconnect': { asked: ({ path, headers }) => { if (path === '/orders/stream') delete headers['last-event-id'] } },
  'stream-out-of-order': outOfOrder(),
  'stream-invents': { streamed: ({ text, orderId }) => [text.replaceAll(orderId, crypto.randomUUID())] },
  'stream-of-everybody': {
    streamed ({ text }, { all, customer }) {
      for (const stream of all) if (stream.customer !== customer) stream.push(text)
      return [text]
    }
  }
} as const satisfies Record<string, Saboteur>

/** Each first event of an order comes after its second. */
function outOfOrder (): Saboteur {
  const held = new Map<string, Event>()
  return {
    streamed (event) {
      const first = held.get(event.orderId)
      held.delete(event.orderId)
      if (first !== undefined) return [event.text, first.text]
      if (event.type !== 'placed') return undefined
      held.set(event.orderId, event)
      return []
    },
    limit: Infinity
  }
}
