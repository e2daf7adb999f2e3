import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type TUnsafe } from 'typebox'
import { Problem } from '../plugins/errors.ts'
import type { FeedCursor, FeedEvent } from '../orders/store.ts'
import { problemResponses } from './schemas.ts'

const heartbeatMs = 15_000
/** A client that reads slower than this much piles up, in bytes, is let go; it comes back with Last-Event-ID and misses nothing. */
const bufferMax = 1_048_576

const LastEventId = Type.Object({ 'last-event-id': Type.Optional(Type.String({ description: 'The id of the last event seen; what came after it follows' })) })

/** The serializer never sees it. */
const eventStream = {
  description: 'Each event has its id, the state that the order reached as its type, and the event as JSON',
  content: { 'text/event-stream': { schema: Type.String() } }
} as unknown as TUnsafe<Readable>

/** Server-sent events of one's own orders, as they happen on any instance. */
const stream: FastifyPluginAsyncTypebox = async app => {
  const open = new Set<() => void>()
  const endAll = (): void => {
    for (const end of open) end()
  }
  // A stream has no end of its own. In a stop it ends with the closing phase; in a plain close(), before the server waits for it.
  app.drain.on('closing', endAll, { name: 'end the order streams' })
  app.addHook('preClose', async () => endAll())

  app.get('/orders/stream', {
    // Its answer would have no body to close, so it would listen for ever.
    exposeHeadRoute: false,
    onRequest: app.allow('orders', 'staff'),
    schema: {
      operationId: 'streamOrders',
      tags: ['orders'],
      summary: "What happens to one's own orders, as server-sent events",
      headers: LastEventId,
      response: { 200: eventStream, ...problemResponses() }
    }
  }, async (request, reply) => {
    const since = cursorOf(request.headers['last-event-id'])
    const events = new Readable({ read () {} })
    const heartbeat = setInterval(() => events.push(': still here\n\n'), heartbeatMs)
    let unsubscribe = (): void => {}
    const end = (): void => {
      if (!open.delete(end)) return
      clearInterval(heartbeat)
      unsubscribe()
      events.push(null)
    }
    open.add(end)
    events.once('close', end)

    events.push('retry: 1000\n\n')
    try {
      unsubscribe = await app.orders.feed.subscribe(request.customer, since, event => {
        if (!open.has(end)) return
        if (events.readableLength > bufferMax) end()
        else events.push(asText(event))
      })
    } catch (error) {
      end()
      throw error
    }
    // A stop that has begun to close has ended the streams it found: this one is too late for that. (200 and an end, not a
    // refusal, after which an EventSource would never come back.)
    if (app.drain.state === 'closing') end()
    // The end may have come while the feed was asked.
    if (!open.has(end)) unsubscribe()
    // x-accel-buffering: nginx holds back what it proxies otherwise.
    reply.type('text/event-stream').headers({ 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    return events
  })
}

export default stream

function asText ({ cursor, event: { total, at, ...event } }: FeedEvent): string {
  const data = JSON.stringify({ ...event, total: Number(total), at: at.toISOString() })
  return `id: ${cursor.tx}.${cursor.orderId}.${cursor.version}\nevent: ${event.type}\ndata: ${data}\n\n`
}

function cursorOf (lastEventId: string | undefined): FeedCursor | undefined {
  if (lastEventId === undefined || lastEventId === '') return undefined
  const [, tx, orderId, version] = /^(\d{1,18})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{1,9})$/.exec(lastEventId) ?? []
  if (tx === undefined || orderId === undefined) throw new Problem('invalid-request', 'Last-Event-ID is not the id of an event of this stream.')
  return { tx: BigInt(tx), orderId, version: Number(version) }
}
