import { readFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { endianness } from 'node:os'
import fp from 'fastify-plugin'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/** The least rate at which a peer must take what is ready for it, in bytes per second; Kestrel's default. */
const bytesPerSecondMin = 240
/** How long a peer may take before the rate counts, in ms; Kestrel's default. */
const graceMs = 5_000
/** How long ahead a peer can be by taking more than the minimum, in ms: windows open in steps, of up to 64 KiB on loopback. */
const creditMaxMs = 10_000
/** The same if the kernel does not report what it holds: it takes much at once, and a steady reader seems to pause in between. */
const creditBlindMaxMs = 60_000
/** What the kernel alone may hold for a peer without consequence, in bytes. */
const keptMax = 65_536
const sweepMs = 1_000

export interface SlowReadersOptions {
  /** Called for each connection that was cut. */
  onCut: () => void
}

/**
 * A minimum rate for answers, including event streams: cuts a peer that takes less of what is ready for it. Node has no such
 * limit: an unread answer would keep its memory and its connection for ever. While nothing is ready, the peer owes nothing,
 * however long a handler or a quiet stream takes.
 */
export default fp<SlowReadersOptions>(async (app, { onCut }) => {
  const readers = new Map<Socket, Reader>()
  app.server.on('connection', socket => {
    readers.set(socket, new Reader(socket))
    socket.once('close', () => readers.delete(socket))
  })

  async function sweep (): Promise<void> {
    const open = [...readers.values()].filter(reader => reader.mayBeBehind)
    if (open.length === 0) return
    const held = await sendQueues(app.server)
    const now = performance.now()
    for (const reader of open) {
      if (!reader.isTooSlow(now, held && (held.get(reader.key) ?? 0))) continue
      app.log.debug({ waiting: reader.waiting }, 'a client was cut, because it took its answer more slowly than the minimum rate')
      onCut()
      reader.cut()
    }
  }
  let sweeping: Promise<void> | undefined
  const timer = setInterval(() => {
    sweeping ??= sweep().finally(() => { sweeping = undefined })
  }, sweepMs).unref()
  app.addHook('onClose', async () => clearInterval(timer))
}, { name: 'slow-readers', fastify: '5.x' })

/** How much a connection's peer takes. All counts are bytes since it was opened. */
export class Reader {
  readonly socket: Socket
  /** What was ready at the last look, and not taken. */
  waiting = 0
  #offered = 0
  #taken = 0
  /** The count that it has to reach, and until when, by performance.now(). undefined: nothing was ready at the last look. */
  #owed: { bytes: number, until: number } | undefined
  #key: string | undefined

  constructor (socket: Socket) {
    this.socket = socket
  }

  /** Whether a closer look is due: something is ready, or was, or has been sent since the last look. */
  get mayBeBehind (): boolean {
    const { socket } = this
    return !socket.destroyed && (socket.writableLength > 0 || this.waiting > 0 || socket.bytesWritten !== this.#offered)
  }

  /** The peer, as `sendQueues` names it. */
  get key (): string {
    this.#key ??= keyOf(this.socket)
    return this.#key
  }

  /** @param held bytes that the kernel holds for the peer; undefined: it does not report that */
  isTooSlow (now: number, held: number | undefined): boolean {
    if (this.socket.destroyed) return false
    const { bytesWritten: offered } = this.socket
    const here = queued(this.socket)
    const there = held ?? 0
    // The kernel was asked a moment before the socket, so one look may count too much. What a peer took never becomes less.
    const taken = Math.max(this.#taken, offered - here - there)
    const more = taken - this.#taken
    this.#offered = offered
    this.#taken = taken
    // A little that only the kernel holds does not count: the network may be down for a while.
    this.waiting = here > 0 || there > keptMax ? here + there : 0
    if (this.waiting === 0) this.#owed = undefined
    // A peer that took all that was ready now owes what has come since. The server may send as little, and as seldom, as it likes.
    else if (this.#owed === undefined || taken >= this.#owed.bytes) this.#owed = { bytes: offered, until: now + graceMs }
    else this.#owed.until = Math.min(now + (held === undefined ? creditBlindMaxMs : creditMaxMs), this.#owed.until + more / bytesPerSecondMin * 1_000)
    return this.#owed !== undefined && now > this.#owed.until
  }

  /** Resets the connection: otherwise the kernel would keep what it holds for minutes. */
  cut (): void {
    // resetAndDestroy() waits until the written data is taken; destroy() does not.
    this.socket.resetAndDestroy().destroy()
  }
}

/** What is written to the socket and not yet taken by the kernel. */
function queued (socket: Socket): number {
  const { _handle: handle } = socket as Socket & { _handle?: { bytesWritten?: number, writeQueueSize?: number } | null }
  return socket.bytesWritten - (handle?.bytesWritten ?? 0) + (handle?.writeQueueSize ?? 0)
}

/**
 * What the kernel holds for each peer and the peer has not acknowledged, in bytes. The kernel takes megabytes at once and then
 * nothing for a while: by Node's figures alone, a reader of 100 kB/s seems to pause for half a minute. Only Linux reports this;
 * elsewhere the result is undefined, and what the kernel has taken counts.
 */
async function sendQueues (server: Server): Promise<ReadonlyMap<string, number> | undefined> {
  const address = server.address()
  if (process.platform !== 'linux' || address === null || typeof address === 'string') return undefined
  const tables = await Promise.all(['tcp', 'tcp6'].map(async table => await readFile(`/proc/self/net/${table}`, 'latin1').catch(() => '')))
  if (tables.every(table => table === '')) return undefined
  // local_address rem_address st tx_queue: this port's lines whose queue is not empty.
  const pattern = new RegExp(`:${hex(address.port, 4)} ([0-9A-F]+:[0-9A-F]{4}) [0-9A-F]{2} (?!0{8})([0-9A-F]{8}):`, 'g')
  return new Map(tables.flatMap(table => [...table.matchAll(pattern)].map(([, peer = '', bytes = '']) => [peer, parseInt(bytes, 16)])))
}

/** The peer as the kernel writes it there: its address in words of the machine's byte order, and its port. */
function keyOf ({ remoteAddress = '', remotePort = 0, remoteFamily }: Socket): string {
  const address = remoteFamily === 'IPv6' ? groupsOf(remoteAddress) : bytesOf(remoteAddress)
  const words = address.match(/.{8}/g) ?? []
  const ordered = endianness() === 'LE' ? words.map(word => (word.match(/../g) ?? []).reverse().join('')) : words
  return `${ordered.join('')}:${hex(remotePort, 4)}`
}

function groupsOf (address: string): string {
  const [, head = '', ipv4] = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address) ?? []
  const text = ipv4 === undefined ? address.split('%')[0] ?? '' : `${head}${bytesOf(ipv4).slice(0, 4)}:${bytesOf(ipv4).slice(4)}`
  const [before = [], after = []] = text.split('::').map(part => part === '' ? [] : part.split(':'))
  return [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after].map(group => group.toUpperCase().padStart(4, '0')).join('')
}

function bytesOf (ipv4: string): string {
  return isIPv4(ipv4) ? ipv4.split('.').map(byte => hex(Number(byte), 2)).join('') : ''
}

function hex (value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0')
}
