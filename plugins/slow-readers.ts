import { readFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { endianness } from 'node:os'
import fp from 'fastify-plugin'
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** As Kestrel has it: bytes a second that a peer takes of what lies ready for it … */
const bytesPerSecondMin = 240
/** … from this long on, in ms. */
const graceMs = 5_000
/** What a peer takes beyond the minimum counts for so long at most, in ms: windows open in steps, of up to 64 KiB on loopback. */
const creditMaxMs = 10_000
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
  app.server.on('request', ({ socket }, response) => readers.get(socket)?.isSent(response))

  async function sweep (): Promise<void> {
    const open = [...readers.values()].filter(reader => reader.mayBeBehind())
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
  #answer: ServerResponse | undefined
  /** At the last look. */
  #answerSeen: ServerResponse | undefined
  #offered = 0
  #taken = 0
  /** What it has to take up to, until when: performance.now(). undefined: nothing lay ready at the last look. */
  #owed: { bytes: number, until: number } | undefined
  #key: string | undefined

  constructor (socket: Socket) {
    this.socket = socket
  }

  isSent (answer: ServerResponse): void {
    this.#answer = answer
  }

  /**
   * Whether a closer look is due: something lies ready here, or did in the kernel, or an answer that is under way for some time
   * has had something added. To be asked at each look.
   */
  mayBeBehind (): boolean {
    const { socket } = this
    const isLong = this.#answer !== undefined && this.#answer === this.#answerSeen && !this.#answer.closed
    this.#answerSeen = this.#answer
    const may = !socket.destroyed && (socket.writableLength > 0 || this.waiting > 0 || (isLong && socket.bytesWritten !== this.#offered))
    if (!may) this.#owed = undefined
    return may
  }

  /** @param held what the kernel holds for each peer; undefined where it does not tell */
  isTooSlow (now: number, held: ReadonlyMap<string, number> | undefined): boolean {
    if (this.socket.destroyed) return false
    const { bytesWritten: offered } = this.socket
    this.#key ??= keyOf(this.socket)
    const taken = offered - queued(this.socket) - (held?.get(this.#key) ?? 0)
    const more = taken - this.#taken
    this.#offered = offered
    this.#taken = taken
    this.waiting = offered - taken
    if (this.waiting === 0) this.#owed = undefined
    // Who has taken all that lay ready owes what has come since: it may be as little, and as seldom, as it likes.
    else if (this.#owed === undefined || taken >= this.#owed.bytes) this.#owed = { bytes: offered, until: now + graceMs }
    else this.#owed.until = Math.min(now + creditMaxMs, this.#owed.until + more / bytesPerSecondMin * 1_000)
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
 * nothing for a while, so that by Node's own figures a steady reader stands still for longer than one that does not read at all
 * may. Linux tells; elsewhere the answer is undefined, and what the kernel has taken counts.
 */
async function sendQueues (server: Server): Promise<ReadonlyMap<string, number> | undefined> {
  const address = server.address()
  if (process.platform !== 'linux' || address === null || typeof address === 'string') return undefined
  const suffix = `:${hex(address.port, 4)}`
  const queues = new Map<string, number>()
  const tables = await Promise.all(['/proc/self/net/tcp', '/proc/self/net/tcp6'].map(async table => await readFile(table, 'latin1').catch(() => '')))
  if (tables.every(table => table === '')) return undefined
  for (const line of tables.join('').split('\n')) {
    // sl local_address rem_address st tx_queue:rx_queue …
    const [, local = '', peer = '', , sizes = ''] = line.trimStart().split(/ +/, 5)
    if (local.endsWith(suffix)) queues.set(peer, parseInt(sizes, 16))
  }
  return queues
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
