import { readFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { endianness } from 'node:os'
import fp from 'fastify-plugin'
import type { Server } from 'node:http'
import type { Socket } from 'node:net'

/** As Kestrel has it: bytes a second that a peer takes of what lies ready for it … */
const bytesPerSecondMin = 240
/** … from this long on, in ms. */
const graceMs = 5_000
/** What a peer takes beyond the minimum counts for so long at most, in ms: windows open in steps, of up to 64 KiB on loopback. */
const creditMaxMs = 10_000
/** The same where the kernel does not tell what it holds: it takes much at once, and a steady reader stands still in between. */
const creditBlindMaxMs = 60_000
/** What the kernel may keep for a peer when there is nothing more for it, in bytes. */
const keptMax = 65_536
const sweepMs = 1_000

export interface SlowReadersOptions {
  /** Told of each peer that was cut. */
  onCut: () => void
}

/**
 * A minimum rate for answers: a peer that takes less of what lies ready for it is cut, event streams among them. Node has no
 * limit of that kind: an answer that is not read keeps its memory and its connection for ever. Where nothing lies ready the
 * peer owes nothing, however long a handler or a quiet stream takes.
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
      if (!reader.isTooSlow(now, held)) continue
      app.log.debug({ waiting: reader.waiting }, 'a client was cut, as it took less of its answer than the minimum rate')
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

/** A connection, as far as it takes what it is sent. All counts are bytes since it was opened. */
class Reader {
  readonly socket: Socket
  /** What lay ready at the last look, and was not taken. */
  waiting = 0
  #offered = 0
  #taken = 0
  /** What it has to take up to, until when: performance.now(). undefined: nothing lay ready at the last look. */
  #owed: { bytes: number, until: number } | undefined
  #key: string | undefined

  constructor (socket: Socket) {
    this.socket = socket
  }

  /** Whether a closer look is due: something lies ready, or did, or has been sent since the last one. */
  get mayBeBehind (): boolean {
    const { socket } = this
    return !socket.destroyed && (socket.writableLength > 0 || this.waiting > 0 || socket.bytesWritten !== this.#offered)
  }

  /** @param held what the kernel holds for each peer; undefined where it does not tell */
  isTooSlow (now: number, held: ReadonlyMap<string, number> | undefined): boolean {
    if (this.socket.destroyed) return false
    const { bytesWritten: offered } = this.socket
    this.#key ??= keyOf(this.socket)
    const here = queued(this.socket)
    const there = held?.get(this.#key) ?? 0
    const taken = offered - here - there
    const more = taken - this.#taken
    this.#offered = offered
    this.#taken = taken
    // What the kernel alone has may wait for a network that is down for a while, if it is little.
    this.waiting = here > 0 || there > keptMax ? here + there : 0
    if (this.waiting === 0) this.#owed = undefined
    // Who has taken all that lay ready owes what has come since: it may be as little, and as seldom, as it likes.
    else if (this.#owed === undefined || taken >= this.#owed.bytes) this.#owed = { bytes: offered, until: now + graceMs }
    else this.#owed.until = Math.min(now + (held === undefined ? creditBlindMaxMs : creditMaxMs), this.#owed.until + more / bytesPerSecondMin * 1_000)
    return this.#owed !== undefined && now > this.#owed.until
  }

  /** By a reset: what the kernel holds would else wait for the client for minutes. */
  cut (): void {
    // It waits for what is written to be taken; destroy() does not.
    this.socket.resetAndDestroy().destroy()
  }
}

/** What is written to the socket and the kernel has not taken. */
function queued (socket: Socket): number {
  const { _handle: handle } = socket as Socket & { _handle?: { bytesWritten?: number, writeQueueSize?: number } | null }
  return socket.bytesWritten - (handle?.bytesWritten ?? 0) + (handle?.writeQueueSize ?? 0)
}

/**
 * What the kernel holds for each peer that the peer has not acknowledged, in bytes. The kernel takes megabytes at once and then
 * nothing for a while: by Node's own figures a reader of 100 kB/s stands still for half a minute. Linux tells; elsewhere the answer
 * is undefined, and what the kernel has taken counts.
 */
async function sendQueues (server: Server): Promise<ReadonlyMap<string, number> | undefined> {
  const address = server.address()
  if (process.platform !== 'linux' || address === null || typeof address === 'string') return undefined
  const tables = await Promise.all(['tcp', 'tcp6'].map(async table => await readFile(`/proc/self/net/${table}`, 'latin1').catch(() => '')))
  if (tables.every(table => table === '')) return undefined
  // local_address rem_address st tx_queue: of this port, and where something is in it.
  const pattern = new RegExp(`:${hex(address.port, 4)} ([0-9A-F]+:[0-9A-F]{4}) [0-9A-F]{2} (?!0{8})([0-9A-F]{8}):`, 'g')
  return new Map(tables.flatMap(table => [...table.matchAll(pattern)].map(([, peer = '', bytes = '']) => [peer, parseInt(bytes, 16)])))
}

/** The peer as the kernel writes it there: its address in words of the machine's order, and its port. */
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
