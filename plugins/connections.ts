import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { holderOf, type TrustedProxies } from './client-address.ts'
import { notStarted, textOf, type Problem } from './errors.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** How long a connection that is turned away may take to send the request that gets the refusal, in ms. */
const patienceMs = 1_000
/** How long a request may come in before it has to give its place to another, in ms. */
const lateMs = 3_000
const retryAfterS = 5

/** How many connections may be turned away and not yet gone: a share of the places, but at least the number. */
const leavingShare = 0.1
const leavingMin = 16

const ports = ['api', 'ops'] as const

/**
 * Why a connection was ended to make room for others.
 * - `idle`: it was idle, and another came.
 * - `late`: its request was incomplete for too long, and another came.
 * - `full`: it came when there was no room.
 * - `address`: it, or its request, came when its address had its share already.
 * - `slow-reader`: its peer took its answer too slowly.
 */
const reasons = ['idle', 'late', 'full', 'address', 'slow-reader'] as const
type Reason = typeof reasons[number]

export interface RoomOptions {
  /** Connections at once. */
  max: number
  /** Connections of one address at once; behind a trusted proxy, requests under way. undefined: no limit. */
  perAddress?: number | undefined
  proxies: TrustedProxies
  onTurnedAway: (reason: Reason) => void
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Counts a connection that was ended to make room for others. */
    turnedAway (port: typeof ports[number], reason: Reason): void
  }
}

/** Keeps room for others: no client can occupy all connections by leaving them idle. */
export default fp<Omit<RoomOptions, 'onTurnedAway'>>(async (app, options) => {
  const total = new Counter({
    name: 'connections_turned_away_total',
    help: 'Connections ended to make room for others, by reason; `address` also counts requests',
    labelNames: ['port', 'reason'],
    registers: app.metrics.registers
  })
  for (const port of ports) for (const reason of reasons) total.inc({ port, reason }, 0)
  app.decorate('turnedAway', (port: typeof ports[number], reason: Reason) => total.inc({ port, reason }))
  const room = holdRoom(app, { ...options, onTurnedAway: reason => app.turnedAway('api', reason) })
  app.metrics.gauge('connections_open', 'Connections of the API', () => room.size)
}, { name: 'connections', fastify: '5.x', dependencies: ['metrics'] })

/** Call it before everything that begins work for a request. */
export function holdRoom (app: FastifyInstance, options: RoomOptions): { readonly size: number } {
  const room = new Room(app, options)
  app.server.on('connection', socket => room.enter(socket))
  app.server.prependListener('request', (request, response) => placeOf(request.socket)?.begin(request, response))
  app.addHook('onRequest', (request, reply, done) => room.admit(request, reply, done))
  return room
}

const kPlace = Symbol('last-orders.place')
type PlacedSocket = Socket & { [kPlace]?: Place }

function placeOf (socket: PlacedSocket): Place | undefined {
  return socket[kPlace]
}

/** The connections of a server: which may go first, and which have to. */
class Room {
  readonly #app: FastifyInstance
  readonly #options: RoomOptions
  readonly #leavingMax: number
  /** A connection with a place is in one of these three sets. The one that has been there longest comes first. */
  readonly #idle = new Set<Place>()
  /** Connections that have sent a part of a head. */
  readonly #partial = new Set<Place>()
  readonly #busy = new Set<Place>()
  /** Turned away, and not yet answered or gone. */
  readonly #leaving = new Set<Place>()
  readonly #ofAddress = new Map<string, Set<Place>>()
  /** Requests under way of the clients that trusted proxies name. */
  readonly #ofClient = new Map<string, number>()

  constructor (app: FastifyInstance, options: RoomOptions) {
    this.#app = app
    this.#options = options
    this.#leavingMax = Math.max(leavingMin, Math.ceil(options.max * leavingShare))
  }

  get size (): number {
    return this.#idle.size + this.#partial.size + this.#busy.size
  }

  enter (socket: PlacedSocket): void {
    const { max, perAddress, proxies } = this.#options
    const place = new Place(this, socket, perAddress === undefined || proxies.trusts(socket.remoteAddress) ? undefined : holderOf(socket.remoteAddress ?? ''))
    socket[kPlace] = place
    socket.once('close', () => {
      place.expire()
      this.#forget(place)
      this.#leaving.delete(place)
    })
    const neighbours = place.address === undefined ? undefined : this.#ofAddress.get(place.address)
    if (neighbours !== undefined && neighbours.size >= (perAddress ?? Infinity)) {
      if (!this.#makeRoom(neighbours)) return this.#turnAway(place, 'address')
    } else if (this.size >= max && !this.#makeRoom()) {
      return this.#turnAway(place, 'full')
    }
    this.#idle.add(place)
    if (place.address === undefined) return
    const shared = this.#ofAddress.get(place.address)
    if (shared === undefined) this.#ofAddress.set(place.address, new Set([place]))
    else shared.add(place)
  }

  /** Refuses a request on a connection that is turned away, once it is complete, and one too many of a client. */
  admit (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
    const { raw } = request
    const place = placeOf(raw.socket)
    const isProbe = request.routeOptions.config.probe === true
    if (place?.reason !== undefined) {
      reply.header('connection', 'close')
      if (isProbe) return done()
      const { reason } = place
      // Waits for the whole body: a close before its end sends a reset, which may overtake the answer.
      const refuse = (): void => done(refusal(reason))
      if (raw.complete) return refuse()
      place.whenOver(raw, refuse)
      return
    }
    if (isProbe || !this.#countRequest(request, reply)) return done()
    reply.header('connection', 'close')
    done(refusal('address'))
  }

  /** @returns whether the client that a proxy names has its share already */
  #countRequest ({ raw }: FastifyRequest, reply: FastifyReply): boolean {
    const { perAddress, proxies, onTurnedAway } = this.#options
    if (perAddress === undefined || !proxies.trusts(raw.socket.remoteAddress)) return false
    const named = proxies.namedBy(raw)
    if (named === undefined) return false
    const client = holderOf(named)
    const underWay = this.#ofClient.get(client) ?? 0
    if (underWay >= perAddress) {
      onTurnedAway('address')
      return true
    }
    this.#ofClient.set(client, underWay + 1)
    reply.raw.on('close', () => {
      const left = (this.#ofClient.get(client) ?? 1) - 1
      if (left === 0) this.#ofClient.delete(client)
      else this.#ofClient.set(client, left)
    })
    return false
  }

  /** @param among default: all @returns whether a connection gave its place up */
  #makeRoom (among?: ReadonlySet<Place>): boolean {
    const idle = this.#longestIdle(among)
    if (idle !== undefined) {
      this.#turnAway(idle, 'idle')
      return true
    }
    const late = this.#latest(among)
    if (late === undefined) return false
    this.#forget(late)
    this.#options.onTurnedAway('late')
    // The same event that Node emits when a request exceeds its time.
    this.#app.server.emit('clientError', Object.assign(new Error('The request did not come in time, and another connection waited.'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), late.socket)
    return true
  }

  #longestIdle (among?: ReadonlySet<Place>): Place | undefined {
    for (const place of this.#idle) {
      if (place.hasPartOfHead) {
        // Moves it out of the idle ones until its request has come: otherwise each newcomer would look at all such connections.
        this.#idle.delete(place)
        this.#partial.add(place.foundPartial())
      } else if (among?.has(place) !== false) {
        return place
      }
    }
    return undefined
  }

  /** A connection whose request has been coming in for too long. */
  #latest (among?: ReadonlySet<Place>): Place | undefined {
    const before = performance.now() - lateMs
    for (const places of [this.#partial, this.#busy]) {
      for (const place of places) {
        if (place.since > before) break
        if (place.waitsForRequest && among?.has(place) !== false) return place
      }
    }
    return undefined
  }

  #turnAway (place: Place, reason: Reason): void {
    this.#forget(place)
    this.#options.onTurnedAway(reason)
    place.turnAway(reason, () => this.#end(place))
    this.#leaving.add(place)
    if (this.#leaving.size <= this.#leavingMax) return
    const [first] = this.#leaving
    if (first !== undefined) this.#end(first)
  }

  /** Ends it after its patience. Answers first, unless the client could take that for the answer to a request that it is about to send. */
  #end (place: Place): void {
    const { socket, reason } = place
    this.#leaving.delete(place)
    place.expire()
    if (place.isAnswering) return
    if ((!place.isUsed || place.hasPartOfHead) && reason !== undefined && socket.writable) {
      const id = crypto.randomUUID()
      this.#app.log.debug({ reqId: id, reason }, 'connection refused')
      if (this.#app.hasDecorator('metrics')) this.#app.metrics.countProblem('not-started')
      socket.write(textOf(refusal(reason), id))
    }
    socket.destroySoon()
  }

  #forget (place: Place): void {
    this.#idle.delete(place)
    this.#partial.delete(place)
    this.#busy.delete(place)
    if (place.address === undefined) return
    const neighbours = this.#ofAddress.get(place.address)
    neighbours?.delete(place)
    if (neighbours?.size === 0) this.#ofAddress.delete(place.address)
  }

  /** The connection is no longer idle. */
  began (place: Place): void {
    if (!this.#idle.delete(place) && !this.#partial.delete(place)) return
    this.#busy.add(place)
  }

  rests (place: Place): void {
    if (this.#busy.delete(place)) this.#idle.add(place)
  }
}

function refusal (reason: Reason): Problem {
  const why = reason === 'address'
    ? 'The address already has as many connections, or requests under way, as it may have.'
    : 'All connections of this instance are in use.'
  return notStarted(why, retryAfterS)
}

/** A connection and its place. */
class Place {
  readonly socket: Socket
  /** Counts to the share of this address. */
  readonly address: string | undefined
  /** When its request began, or was found to come in, by performance.now(). */
  since = 0
  /** Why it has to go; undefined: it may stay. */
  reason: Reason | undefined
  isUsed = false
  readonly #room: Room
  #underWay = 0
  /** The last request. */
  #incoming: IncomingMessage | undefined
  /** The bytes that the socket had read when the connection last became idle. */
  #readAtRest = 0
  #patience: NodeJS.Timeout | undefined
  #onExpire: (() => void) | undefined

  constructor (room: Room, socket: Socket, address: string | undefined) {
    this.#room = room
    this.socket = socket
    this.address = address
  }

  get hasPartOfHead (): boolean {
    return this.socket.bytesRead > this.#readAtRest
  }

  get isAnswering (): boolean {
    return this.#underWay > 0
  }

  /** Whether its only request is incomplete, so that nothing was begun for it. */
  get waitsForRequest (): boolean {
    return this.#underWay === 0 || (this.#underWay === 1 && this.#incoming?.complete === false)
  }

  begin (request: IncomingMessage, response: ServerResponse): void {
    this.isUsed = true
    this.#incoming = request
    this.since = performance.now()
    if (this.#underWay++ === 0) this.#room.began(this)
    response.on('close', () => {
      // The rest of a body belongs to its request, even after the answer.
      if (request.complete) this.#ended()
      else request.once('end', () => this.#ended())
    })
  }

  foundPartial (): this {
    this.since = performance.now()
    return this
  }

  turnAway (reason: Reason, end: () => void): void {
    this.reason = reason
    this.#patience = setTimeout(end, patienceMs).unref()
  }

  /** Calls back when the request is complete, or when its time is over. */
  whenOver (request: IncomingMessage, call: () => void): void {
    const over = (): void => {
      this.#onExpire = undefined
      request.off('end', over)
      call()
    }
    this.#onExpire = over
    request.once('end', over)
    request.resume()
  }

  expire (): void {
    clearTimeout(this.#patience)
    this.#onExpire?.()
  }

  #ended (): void {
    if (--this.#underWay > 0) return
    this.#incoming = undefined
    this.#readAtRest = this.socket.bytesRead
    this.#room.rests(this)
  }
}
