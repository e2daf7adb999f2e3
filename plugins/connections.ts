import { Counter } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { holderOf, type TrustedProxies } from './client-address.ts'
import { notStarted, textOf, type Problem } from './errors.ts'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** How long a connection that is turned away may take to send the request that is answered so, in ms. */
const patienceMs = 1_000
/** A request that has been coming in for this long gives its place to another, in ms. */
const lateMs = 3_000
const retryAfterS = 5

/** Of those that are turned away and not yet gone: this share of the places, and no fewer than the number. */
const leavingShare = 0.1
const leavingMin = 16

const ports = ['api', 'ops'] as const

/**
 * Why a connection was ended for the others' sake.
 * - `idle`: it had nothing to do, and another came.
 * - `late`: its request did not come to its end, and another came.
 * - `full`: it came when there was no room.
 * - `address`: it came, or its request did, when its address had its share.
 * - `slow-reader`: its peer did not take its answer.
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
    /** Counts a connection that was ended for the others' sake. */
    turnedAway (port: typeof ports[number], reason: Reason): void
  }
}

/** Room for others: nobody can take all connections by doing nothing with them. */
export default fp<Omit<RoomOptions, 'onTurnedAway'>>(async (app, options) => {
  const total = new Counter({
    name: 'connections_turned_away_total',
    help: 'Connections ended so that others have room, by why; `address` counts requests as well',
    labelNames: ['port', 'reason'],
    registers: app.metrics.registers
  })
  for (const port of ports) for (const reason of reasons) total.inc({ port, reason }, 0)
  app.decorate('turnedAway', (port: typeof ports[number], reason: Reason) => total.inc({ port, reason }))
  const room = holdRoom(app, { ...options, onTurnedAway: reason => app.turnedAway('api', reason) })
  app.metrics.gauge('connections_open', 'Connections of the API', () => room.size)
}, { name: 'connections', fastify: '5.x', dependencies: ['metrics'] })

/** Registered before all that begins something. */
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

/** Every connection of a server, those that can go first, and those that have to. */
class Room {
  readonly #app: FastifyInstance
  readonly #options: RoomOptions
  readonly #leavingMax: number
  /** Those that hold a place, each in one of three: the longest in it first. */
  readonly #idle = new Set<Place>()
  /** Found with a part of a head. */
  readonly #partial = new Set<Place>()
  readonly #busy = new Set<Place>()
  /** Turned away, and still to be told or gone. */
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

  /** Refuses what came on a connection that is turned away, once it is whole, and what is too much of one client. */
  admit (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void {
    const { raw } = request
    const place = placeOf(raw.socket)
    const isProbe = request.routeOptions.config.probe === true
    if (place?.reason !== undefined) {
      reply.header('connection', 'close')
      if (isProbe) return done()
      const { reason } = place
      // To close on a body that is still coming in is a reset, which may overtake the answer.
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

  /** @param among only of these @returns whether somebody gave way */
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
    // As Node does when the time of a request is over.
    this.#app.server.emit('clientError', Object.assign(new Error('Its request did not come in time, and another one waited.'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' }), late.socket)
    return true
  }

  #longestIdle (among?: ReadonlySet<Place>): Place | undefined {
    for (const place of this.#idle) {
      if (place.hasPartOfHead) {
        // Until its request has come nobody looks at it here again: a crowd of such would cost each newcomer a look at all.
        this.#idle.delete(place)
        this.#partial.add(place.foundPartial())
      } else if (among?.has(place) !== false) {
        return place
      }
    }
    return undefined
  }

  /** Whose request has been coming in for too long. */
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

  /** Once its patience is over: with an answer, unless it may take that for the answer to a request that it is about to send. */
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

  /** Its first request has begun. */
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
    ? 'As many connections, or requests, as one address may have are under way already.'
    : 'All connections that this instance can have are in use.'
  return notStarted(why, retryAfterS)
}

/** A connection, as far as its place goes. */
class Place {
  readonly socket: Socket
  /** Whose share it counts to. */
  readonly address: string | undefined
  /** When what it does began, as far as it matters: performance.now(). */
  since = 0
  /** Why it has to go. */
  reason: Reason | undefined
  isUsed = false
  readonly #room: Room
  #underWay = 0
  /** The request that came last, where it is not whole. */
  #incoming: IncomingMessage | undefined
  /** What the socket had read when it last had nothing to do. */
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

  /** Its head is not whole, or its body, of which nothing was begun then. */
  get waitsForRequest (): boolean {
    return this.#underWay === 0 || (this.#underWay === 1 && this.#incoming?.complete === false)
  }

  begin (request: IncomingMessage, response: ServerResponse): void {
    this.isUsed = true
    this.#incoming = request
    this.since = performance.now()
    if (this.#underWay++ === 0) this.#room.began(this)
    response.on('close', () => {
      // What is left of a body whose answer is out is part of its request.
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

  /** Calls it when the request has come whole, or when it has had the time for it. */
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
