import type { Connection } from './connection.ts'
import type { Connections } from './connections.ts'
import type { Exchange } from './exchange.ts'
import type { Requests } from './requests.ts'
import { now } from './timers.ts'

/** How long a head may take to become complete, from the moment that nothing more is accepted, and a body until its next byte. */
const incompleteMs = 1_000
/** The client of an idle connection that was answered less than this long ago may have asked again. */
const activeMs = 50
/** The same if the last reply could not announce the close: a round trip over an ocean, and time to react. */
const untoldMs = 1_000
/** A connection younger than this may have its first request on the wire. A TLS handshake has incompleteMs. */
const freshMs = 250
/** A client that takes next to nothing of its answer for this long does not read it. */
const stalledMs = 3_000
/** A body that has arrived too slowly for this long is not worth waiting for. */
const trickleMs = 5_000
/** This long before the deadline, the stop cuts answers that have waited for their client for as long, so that handlers still have time to end. */
const lastMs = 1_000

/**
 * Ends idle connections, incomplete requests and unread answers. Node no longer does once the listener is closed:
 * headersTimeout and requestTimeout do not fire (nodejs/node#63452), and closeIdleConnections() would cut a large answer
 * that is written and not yet flushed.
 */
export class Sweep {
  readonly #connections: Connections
  readonly #requests: Requests
  /** Answers a request that has not begun, and makes sure that it never will. */
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
   * Must be called after a turn of the loop has read the sockets.
   *
   * @returns whether there is something to end after one more turn
   */
  look (): boolean {
    let again = false
    const time = now()
    const late = time - this.#since >= incompleteMs
    for (const connection of this.#connections) {
      const { session, open, upgraded } = connection
      if (upgraded) {
        if (late) connection.cut('upgraded')
      } else if (open.length > 0) {
        this.#refuseIncomplete(connection, time, late)
        this.#cutStalled(connection, time)
      } else if (session === undefined && (connection.restsFor(time) >= linger(connection) || connection.headTakes(time) >= incompleteMs)) {
        // Bytes that arrived while the loop was busy are still to be read.
        if (connection.overdue) endUnasked(connection)
        else connection.overdue = again = true
      }
      if (session !== undefined) endSession(connection, late)
    }
    if (!late) return again
    this.#connections.endHandshakes()
    // A parser may wait forever for a body that will never be complete.
    for (const exchange of [...this.#requests]) if (exchange.over && !exchange.begun) this.#requests.giveUp(exchange)
    return again
  }

  /**
   * A request whose body is still arriving has not begun: it is served as long as the body arrives at the least rate or
   * faster. The stop waits for a request that has begun, whatever its client does.
   */
  #refuseIncomplete (connection: Connection, time: number, late: boolean): void {
    const stalls = connection.receivesNothingFor(time) >= incompleteMs
    const trickles = connection.receivesTooLittle(time, trickleMs)
    if (!late || !(stalls || trickles)) return
    for (const exchange of [...connection.open]) {
      if (exchange.begun || exchange.complete || exchange.fate !== undefined) continue
      if (!connection.http2) connection.endedAs = 'incomplete'
      this.#refuse(exchange)
    }
  }

  /** Cuts only the answer: the stop waits for a handler that still runs, as for that of any client that has gone. */
  #cutStalled (connection: Connection, time: number): void {
    const hadItsTime = connection.unreadFor(time) >= lastMs && this.#remaining() <= lastMs
    if (!connection.takesTooLittle(time, stalledMs) && !hadItsTime) return
    const unread = [...connection.unread]
    for (const exchange of unread) exchange.stall()
    if (unread.length === connection.open.length) return connection.cut('stalled')
    // Other streams of an HTTP/2 session may still be answered.
    for (const exchange of unread) exchange.reset()
  }
}

function linger ({ requests, untold }: Connection): number {
  if (requests === 0) return freshMs
  return untold ? untoldMs : activeMs
}

function endUnasked (connection: Connection): void {
  if (!connection.hasPartOfHead) return connection.end(connection.requests > 0 ? 'idle' : 'unused')
  if (connection.socket.writable) connection.socket.write('HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  connection.end('incomplete')
}

/** Sends GOAWAY: open streams finish, and the session closes itself after the last (RFC 9113, 6.8). */
function endSession (connection: Connection, late: boolean): void {
  const { session, open } = connection
  if (session?.closed === false) session.close()
  for (const exchange of [...open]) if (exchange.onlyUploads) exchange.endUpload()
  if (open.length > 0) return
  if (late) connection.cut('idle')
  else connection.endedAs ??= 'idle'
}
