import { Readable } from 'node:stream'
import type { ServerResponse } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type TUnsafe } from 'typebox'
import { notStarted, Problem } from '../plugins/errors.ts'
import type { FeedMessage, FeedReader } from '../orders/feed.ts'
import { messageOf } from '../orders/publisher.ts'
import type { FeedCursor } from '../orders/store.ts'
import { Customer, reachOf } from './reach.ts'
import { problemResponses } from './schemas.ts'

const heartbeatMs = 15_000
/** What may wait for a client that reads slower than events come, in bytes. */
const bufferMax = 1_048_576
/** What a client is told that finds no place, in seconds. */
const retryAfterS = 10

const LastEventId = Type.Object({ 'last-event-id': Type.Optional(Type.String({ description: 'The id of the last event seen; what came after it follows' })) })

/** The serializer never sees it. */
const eventStream = {
  description: 'Each event has its id, the state that the order reached as its type, and the event as JSON. One of type `gap` says that events may be missing between those before and those after it, and why: { reason, detail }',
  content: { 'text/event-stream': { schema: Type.String() } }
} as unknown as TUnsafe<Readable>

export interface StreamLimits {
  /** At once. */
  max: number
  perCustomer: number
}

/** Server-sent events of one's own orders, or to staff of everybody's, as they happen on any instance. */
const stream: FastifyPluginAsyncTypebox<StreamLimits> = async (app, limits) => {
  const open = new Set<OrderStream>()
  const places = new Places(limits)
  const endAll = (): void => {
    for (const stream of open) stream.end()
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
      summary: "What happens to one's own orders, as server-sent events (staff: to everybody's)",
      querystring: Type.Object({ customer: Type.Optional(Customer) }, { additionalProperties: false }),
      headers: LastEventId,
      response: { 200: eventStream, ...problemResponses() }
    }
  }, async (request, reply) => {
    const customer = reachOf(request, request.query.customer)
    const since = cursorOf(request.headers['last-event-id'])
    places.take(request.customer, reply.raw)
    const stream = new OrderStream(reply.raw, request.tokenGoodUntilMs)
    open.add(stream)
    stream.onEnd(() => open.delete(stream))
    try {
      stream.onEnd(await app.orders.feed.subscribe(customer, since, stream))
    } catch (error) {
      stream.end()
      throw error
    }
    // A stop that has begun to close has ended the streams it found: this one is too late for that. (200 and an end, not a
    // refusal, after which an EventSource would never come back.)
    if (app.drain.state === 'closing') stream.end()
    // x-accel-buffering: nginx holds back what it proxies otherwise.
    reply.type('text/event-stream').headers({ 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    return stream.events
  })
}

/** Streams that are open: one lasts as long as its client likes, so they may not take all connections, nor one customer all of them. */
class Places {
  readonly #limits: StreamLimits
  readonly #ofCustomer = new Map<string, number>()
  #taken = 0

  constructor (limits: StreamLimits) {
    this.#limits = limits
  }

  /**
   * Until the response is over.
   *
   * @throws Problem where there is none
   */
  take (customer: string, response: ServerResponse): void {
    // It would never close again.
    if (response.closed) throw notStarted('The client has gone.')
    const own = this.#ofCustomer.get(customer) ?? 0
    if (own >= this.#limits.perCustomer) throw new Problem('rate-limited', `You have ${own} event streams open, and no more are allowed. Nothing was stored; close one, and try again.`, { headers: { 'retry-after': String(retryAfterS) } })
    if (this.#taken >= this.#limits.max) throw notStarted('As many event streams are open as this instance can have.', retryAfterS)
    this.#taken++
    this.#ofCustomer.set(customer, own + 1)
    response.once('close', () => {
      this.#taken--
      const left = (this.#ofCustomer.get(customer) ?? 1) - 1
      if (left === 0) this.#ofCustomer.delete(customer)
      else this.#ofCustomer.set(customer, left)
    })
  }
}

/** One client's events as text. What waits for the client in memory is bounded. */
class OrderStream implements FeedReader {
  readonly events: Readable
  readonly #response: ServerResponse
  readonly #tokenGoodUntilMs: number
  readonly #heartbeat: NodeJS.Timeout
  readonly #endings: Array<() => void> = []
  /** Whether the client has taken something since the last heartbeat. */
  #isRead = true
  #expiry: NodeJS.Timeout | undefined
  #isEnded = false
  #onRead = (): void => {}

  constructor (response: ServerResponse, tokenGoodUntilMs: number) {
    this.#response = response
    this.#tokenGoodUntilMs = tokenGoodUntilMs
    this.events = new Readable({
      read: () => {
        this.#isRead = true
        this.#onRead()
      }
    })
    this.events.once('close', () => this.end())
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs)
    this.events.push('retry: 1000\n\n')
    this.#endWithToken()
  }

  push (message: FeedMessage): void {
    if (this.#isEnded) return
    this.events.push(asText(message))
    if (this.events.readableLength > bufferMax) this.#endWith('its reader was slower than the events')
  }

  async drained (): Promise<void> {
    if (this.events.readableLength < this.events.readableHighWaterMark) return
    await new Promise<void>(resolve => { this.#onRead = resolve })
  }

  failed (): void {
    this.#endWith('the database did not give what came before')
  }

  /** Calls it at the end, or at once where that has been. */
  onEnd (ending: () => void): void {
    if (this.#isEnded) ending()
    else this.#endings.push(ending)
  }

  end (): void {
    if (this.#isEnded) return
    this.#isEnded = true
    clearInterval(this.#heartbeat)
    clearTimeout(this.#expiry)
    for (const ending of this.#endings) ending()
    this.events.push(null)
  }

  #beat (): void {
    this.#endWithToken()
    if (this.events.readableLength === 0) this.events.push(': still here\n\n')
    else if (!this.#isRead) this.#endWith(`its reader took nothing for ${heartbeatMs / 1_000} s`)
    this.#isRead = false
  }

  /** Asked at each heartbeat: a token may be good for longer than a timer of Node can be, and the clock may be set. */
  #endWithToken (): void {
    clearTimeout(this.#expiry)
    const leftMs = this.#tokenGoodUntilMs - Date.now()
    if (leftMs <= heartbeatMs) this.#expiry = setTimeout(() => this.#endWith('its token has expired', 'connect again with a new token and'), leftMs)
  }

  /** For the one who looks at the text: an EventSource connects again and sends the id by itself. */
  #endWith (why: string, next = 'connect again with'): void {
    if (this.#isEnded) return
    this.events.push(`: this stream ends, as ${why}. Nothing is lost: ${next} the last id as Last-Event-ID.\n\n`)
    this.end()
    // It may never take that either, and keep its part of the memory.
    const cut = setTimeout(() => this.#response.destroy(), heartbeatMs)
    this.events.once('close', () => clearTimeout(cut))
  }
}

export default stream

function asText ({ cursor, ...message }: FeedMessage): string {
  const id = `id: ${idOf(cursor)}\n`
  if ('gap' in message) return `${id}event: gap\ndata: ${JSON.stringify(message.gap)}\n\n`
  // Without data it is no event to an EventSource, which remembers the id all the same.
  if (!('event' in message)) return `${id}\n`
  return `${id}event: ${message.event.type}\ndata: ${JSON.stringify(messageOf(message.event))}\n\n`
}

/** In epoch 0 as the version before knows it. */
function idOf ({ tx, orderId, version, began }: FeedCursor): string {
  return `${tx}.${orderId}.${version}` + (began === 0 ? '' : `.${began.toString(36)}`)
}

function cursorOf (lastEventId: string | undefined): FeedCursor | undefined {
  if (lastEventId === undefined || lastEventId === '') return undefined
  const [, tx, orderId, version, began = '0'] = /^(\d{1,19})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{1,9})(?:\.([0-9a-z]{1,10}))?$/.exec(lastEventId) ?? []
  if (tx === undefined || orderId === undefined || BigInt(tx) > positionMax) throw new Problem('invalid-request', 'Last-Event-ID is not the id of an event of this stream.')
  return { tx: BigInt(tx), orderId, version: Number(version), began: parseInt(began, 36) }
}

/** What a bigint of Postgres holds. */
const positionMax = 2n ** 63n - 1n
