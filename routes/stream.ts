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
/** The most that waits for a client that reads more slowly than events come, in bytes. */
const bufferMax = 1_048_576
/** The Retry-After of a client that gets no stream, in seconds. */
const retryAfterS = 10

const LastEventId = Type.Object({ 'last-event-id': Type.Optional(Type.String({ description: 'The id of the last event seen; the later events follow' })) })

/** For the document alone: the serializer never sees a stream. */
const eventStream = {
  description: 'Each event has an id, the state that the order reached as its type, and the event as JSON. An event of type `gap` says that events may be missing at this place, and why: { reason, detail }',
  content: { 'text/event-stream': { schema: Type.String() } }
} as unknown as TUnsafe<Readable>

export interface StreamLimits {
  /** Streams open at once. */
  max: number
  perCustomer: number
}

/** Server-sent events of one's own orders (staff: of everybody's), from all instances. */
const stream: FastifyPluginAsyncTypebox<StreamLimits> = async (app, limits) => {
  const open = new Set<OrderStream>()
  const places = new Places(limits)
  const endAll = (): void => {
    for (const stream of open) stream.end()
  }
  // A stream never ends by itself. In a stop it ends with the closing phase; in a plain close(), before the server waits for it.
  app.drain.on('closing', endAll, { name: 'end the order streams' })
  app.addHook('preClose', async () => endAll())

  app.get('/orders/stream', {
    // A HEAD has no body whose end would close the subscription.
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
    // The closing phase has ended the streams that it found; this one is later. It gets 200 and an end, because after a refusal an
    // EventSource never reconnects.
    if (app.drain.state === 'closing') stream.end()
    // x-accel-buffering: else nginx buffers the stream.
    reply.type('text/event-stream').headers({ 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
    return stream.events
  })
}

/** Limits the open streams, because a client may keep one for ever: all streams together, and those of one customer. */
class Places {
  readonly #limits: StreamLimits
  readonly #ofCustomer = new Map<string, number>()
  #taken = 0

  constructor (limits: StreamLimits) {
    this.#limits = limits
  }

  /**
   * Takes a place until the response is over.
   *
   * @throws Problem if no place is free
   */
  take (customer: string, response: ServerResponse): void {
    // `close` was emitted already, so nothing would free the place.
    if (response.closed) throw notStarted('The client has gone.')
    const own = this.#ofCustomer.get(customer) ?? 0
    if (own >= this.#limits.perCustomer) throw new Problem('rate-limited', `You have ${own} event streams open, and no more are allowed. Nothing was stored. Close one, and try again.`, { headers: { 'retry-after': String(retryAfterS) } })
    if (this.#taken >= this.#limits.max) throw notStarted('This instance has no event stream left.', retryAfterS)
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

/** One client's events as text, with a bounded buffer. */
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

  /** Calls `ending` at the end, or at once if the stream has ended. */
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

  /** Runs at each heartbeat, because a token may last longer than any timer of Node, and the clock may be changed. */
  #endWithToken (): void {
    clearTimeout(this.#expiry)
    const leftMs = this.#tokenGoodUntilMs - Date.now()
    if (leftMs <= heartbeatMs) this.#expiry = setTimeout(() => this.#endWith('its token has expired', 'connect again with a new token and'), leftMs)
  }

  /** The text is for people: an EventSource reconnects and sends the id by itself. */
  #endWith (why: string, next = 'connect again with'): void {
    if (this.#isEnded) return
    this.events.push(`: this stream ends, as ${why}. Nothing is lost: ${next} the last id as Last-Event-ID.\n\n`)
    this.end()
    // The client may never read this either, and its buffer would stay.
    const cut = setTimeout(() => this.#response.destroy(), heartbeatMs)
    this.events.once('close', () => clearTimeout(cut))
  }
}

export default stream

function asText ({ cursor, ...message }: FeedMessage): string {
  const id = `id: ${idOf(cursor)}\n`
  if ('gap' in message) return `${id}event: gap\ndata: ${JSON.stringify(message.gap)}\n\n`
  // Without data it is no event; an EventSource still remembers the id.
  if (!('event' in message)) return `${id}\n`
  return `${id}event: ${message.event.type}\ndata: ${JSON.stringify(messageOf(message.event))}\n\n`
}

/** In epoch 0 it has the form that the previous version of the service knows. */
function idOf ({ tx, orderId, version, began }: FeedCursor): string {
  return `${tx}.${orderId}.${version}` + (began === 0 ? '' : `.${began.toString(36)}`)
}

function cursorOf (lastEventId: string | undefined): FeedCursor | undefined {
  if (lastEventId === undefined || lastEventId === '') return undefined
  const [, tx, orderId, version, began = '0'] = /^(\d{1,19})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(\d{1,9})(?:\.([0-9a-z]{1,10}))?$/.exec(lastEventId) ?? []
  if (tx === undefined || orderId === undefined || BigInt(tx) > positionMax) throw new Problem('invalid-request', 'Last-Event-ID is not the id of an event of this stream.')
  return { tx: BigInt(tx), orderId, version: Number(version), began: parseInt(began, 36) }
}

/** The largest bigint of Postgres. */
const positionMax = 2n ** 63n - 1n
