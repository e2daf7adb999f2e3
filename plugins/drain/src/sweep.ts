import type { Connection } from './connection.ts'
import type { Connections } from './connections.ts'
import type { Exchange } from './exchange.ts'
import type { Requests } from './requests.ts'
import { now } from './timers.ts'

/** A head has this long to become complete, from the moment that nothing more is accepted; a body has this long for its next byte. */
const INCOMPLETE_MS = 1_000
/** A connection with nothing to do that was answered less than this long ago belongs to a client that may have asked again. */
const ACTIVE_MS = 50
/** As long where its last reply could not say that the connection ends: a round trip over an ocean, and some thought. */
const UNTOLD_MS = 1_000
/** A connection younger than this may have its first request on the wire. A TLS handshake has INCOMPLETE_MS. */
const FRESH_MS = 250
/** A client that takes next to nothing of its answer for this long does not read it. */
const STALLED_MS = 3_000
/** A body that has come in so slowly for this long is none that is worth to wait for. */
const TRICKLE_MS = 5_000
/** So long before the deadline no client is waited for that has had an answer waiting for as long: what was begun has still time to end. */
const LAST_MS = 1_000

/**
 * Ends what has nothing to do, what does not become complete, and what is not read. Node stopped looking after these when
 * the listener closed: headersTimeout and requestTimeout no longer fire (nodejs/node#63452), and closeIdleConnections()
 * would cut a large answer that is written and not yet flushed.
 */
export class Sweep {
  readonly #connections: Connections
  readonly #requests: Requests
  /** Answers a request that has not begun, and sees to it that it never will. */
  readonly #refuse: (exchange: Exchange) => void
  /** ms to the deadline. */
  readonly #remaining: () => number
  readonly #since = now()

  constructor (connections: Connections, requests: Requests, refuse: (exchange: Exchange) => void, remaining: () => number) {
    this.#connections = connections
    this.#requests = requests
    this.#refuse = refuse
    this.#remaining = remaining
  }

  /**
   * To be called after a turn of the loop has read what there was.
   *
   * @returns whether there is something to end after one more turn
   */
  look (): boolean {
    let again = false
    const time = now()
    const late = time - this.#since >= INCOMPLETE_MS
    for (const connection of this.#connections) {
      const { session, open, upgraded } = connection
      if (upgraded) {
        if (late) connection.cut('upgraded')
      } else if (open.length > 0) {
        this.#refuseIncomplete(connection, time, late)
        this.#cutStalled(connection, time)
      } else if (session === undefined && (connection.restsFor(time) >= linger(connection) || connection.headTakes(time) >= INCOMPLETE_MS)) {
        // What came while the loop was busy is still to be read.
        if (connection.overdue) endUnasked(connection)
        else connection.overdue = again = true
      }
      if (session !== undefined) endSession(connection, late)
    }
    if (!late) return again
    this.#connections.endHandshakes()
    // A body that will never be complete may leave its parser waiting for ever.
    for (const exchange of [...this.#requests]) if (exchange.over && !exchange.begun) this.#requests.giveUp(exchange)
    return again
  }

  /**
   * Nothing has begun of a request whose body is still coming in: it is served as long as the body comes, and at no less
   * than the least rate. What has begun is waited for, whatever its client does.
   */
  #refuseIncomplete (connection: Connection, time: number, late: boolean): void {
    const stalls = connection.receivesNothingFor(time) >= INCOMPLETE_MS
    const trickles = connection.receivesTooLittle(time, TRICKLE_MS)
    if (!late || !(stalls || trickles)) return
    for (const exchange of [...connection.open]) {
      if (exchange.begun || exchange.complete || exchange.fate !== undefined) continue
      if (!connection.http2) connection.endedAs = 'incomplete'
      this.#refuse(exchange)
    }
  }

  /** Only the answer is cut: the handler, where it still runs, is waited for like that of any client that has gone. */
  #cutStalled (connection: Connection, time: number): void {
    const hadItsTime = connection.unreadFor(time) >= LAST_MS && this.#remaining() <= LAST_MS
    if (!connection.takesTooLittle(time, STALLED_MS) && !hadItsTime) return
    const unread = [...connection.unread]
    for (const exchange of unread) exchange.stall()
    if (unread.length === connection.open.length) return connection.cut('stalled')
    // What else is under way on an HTTP/2 session may still be answered.
    for (const exchange of unread) exchange.reset()
  }
}

function linger ({ requests, untold }: Connection): number {
  if (requests === 0) return FRESH_MS
  return untold ? UNTOLD_MS : ACTIVE_MS
}

function endUnasked (connection: Connection): void {
  if (!connection.hasPartOfHead) return connection.end(connection.requests > 0 ? 'idle' : 'unused')
  if (connection.socket.writable) connection.socket.write('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  connection.end('incomplete')
}

/** GOAWAY: streams that are open finish, and the session closes itself after the last (RFC 9113, 6.8). */
function endSession (connection: Connection, late: boolean): void {
  const { session, open } = connection
  if (session?.closed === false) session.close()
  for (const exchange of [...open]) if (exchange.onlyUploads) exchange.endUpload()
  if (open.length > 0) return
  if (late) connection.cut('idle')
  else connection.endedAs ??= 'idle'
}
