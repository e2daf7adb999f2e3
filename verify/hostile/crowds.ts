import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Request, Target } from '../target.ts'

/** Hostile clients, until they are told to leave. */
export interface Crowd {
  /** Requests that were sent in whole: the report of a stop may count this many that no client of the load knows. */
  readonly asked: number
  leave: () => void
}

export interface Against {
  readonly url: string
  readonly target: Pick<Target, 'request' | 'stream' | 'readiness' | 'hostile'>
}

type Making = (against: Against, crowd: Members) => Promise<void>

const readers = 24
/** Pipelined requests of one connection: more answers than the kernels of both sides can buffer. */
const pipelined = 200
const writers = 60
/** More connections than a service may have. */
const idlers = 1_200
const listeners = 40
const aborters = 16
/** ms between two bytes of a slow client. */
const dawdleMs = 300
const leaveMs = 200
const retryMs = 100
/** The Content-Length of a body that never ends. */
const bodyLength = 10_000

export const crowds = {
  /** They request much, and read nothing of it, or a byte now and then. */
  async 'slow-readers' ({ url, target }, crowd) {
    const request = whole(largest(target)).repeat(pipelined)
    await crowd.gather(readers, url, (socket, index) => {
      socket.pause().write(request)
      crowd.asked += pipelined
      if (index % 2 === 0) crowd.every(dawdleMs, socket, () => { socket.read(1) })
    })
  },

  /** They send a head or a body a byte now and then, or never to its end. */
  async 'slow-writers' ({ url, target }, crowd) {
    const { headers, path, method } = target.request({ kind: 'place', customer: 'hostile', key: 'never', order: { currency: 'EUR', items: [] } }) ?? largest(target)
    const head = headOf({ method, path, headers: { ...headers, 'content-length': String(bodyLength) } })
    await crowd.gather(writers, url, (socket, index) => {
      socket.write(index % 3 === 0 ? head.slice(0, head.length / 2) : `${head}\r\n{`)
      if (index % 3 === 2) return
      crowd.every(dawdleMs, socket, () => { socket.write(index % 3 === 0 ? 'a' : ' ') })
    })
  },

  /** Each sends one request, and then nothing. */
  async 'idle-crowd' ({ url, target }, crowd) {
    const request = whole({ method: 'GET', path: target.readiness, headers: {} })
    await crowd.gather(idlers, url, socket => {
      socket.resume().write(request)
      crowd.asked++
    })
  },

  /** They request all past events: half of them read nothing, and half leave at once and come again. */
  async 'old-cursors' ({ url, target }, crowd) {
    const request = whole(target.hostile?.past ?? target.stream?.request('hostile') ?? largest(target))
    await crowd.gather(listeners, url, (socket, index) => {
      if (index % 2 === 0) socket.pause()
      else crowd.comesAgain(socket, leaveMs)
      socket.write(request)
      crowd.asked++
    })
  },

  /** They leave at the first byte of the answer, and come again. */
  async 'aborted-downloads' ({ url, target }, crowd) {
    const request = whole(largest(target))
    await crowd.gather(aborters, url, socket => {
      socket.write(request)
      crowd.asked++
      socket.once('data', () => socket.resetAndDestroy())
      crowd.comesAgain(socket)
    })
  }
} as const satisfies Record<string, Making>

export type CrowdName = keyof typeof crowds
export const crowdNames = Object.keys(crowds) as CrowdName[]

/** Resolves when all clients are connected or were refused. */
export async function gather (name: CrowdName, against: Against): Promise<Crowd> {
  const crowd = new Members()
  await crowds[name](against, crowd)
  return crowd
}

class Members implements Crowd {
  asked = 0
  readonly #sockets = new Set<Socket>()
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #again = new WeakSet<Socket>()
  #hasLeft = false

  /** @param act what each client does once it is connected */
  async gather (count: number, url: string, act: (socket: Socket, index: number) => void): Promise<void> {
    for (let index = 0; index < count; index++) {
      this.#come(url, act, index)
      // A full backlog would make the rest wait for a second.
      if (index % 100 === 99) await delay(20)
    }
    await delay(leaveMs)
  }

  every (ms: number, socket: Socket, act: () => void): void {
    const timer = setInterval(() => {
      if (!socket.destroyed && socket.writable) act()
    }, ms)
    this.#timers.add(timer)
    socket.once('close', () => {
      clearInterval(timer)
      this.#timers.delete(timer)
    })
  }

  /** Another client replaces it when it has gone. @param leavesAfter ms; otherwise it leaves by itself */
  comesAgain (socket: Socket, leavesAfter?: number): void {
    this.#again.add(socket)
    if (leavesAfter === undefined) return
    const timer = setTimeout(() => socket.destroy(), leavesAfter)
    this.#timers.add(timer)
    socket.once('close', () => this.#timers.delete(timer))
  }

  leave (): void {
    this.#hasLeft = true
    for (const timer of this.#timers) clearTimeout(timer)
    for (const socket of this.#sockets) socket.destroy()
  }

  #come (url: string, act: (socket: Socket, index: number) => void, index: number): void {
    if (this.#hasLeft) return
    const { hostname: host, port } = new URL(url)
    const socket = connect({ host, port: Number(port) }, () => act(socket, index))
    this.#sockets.add(socket)
    // The service cuts, refuses or resets it, as it should.
    socket.on('error', () => {})
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (!this.#again.has(socket) || this.#hasLeft) return
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        this.#come(url, act, index)
      }, retryMs)
      this.#timers.add(timer)
    })
  }
}

function largest ({ hostile, request, readiness }: Against['target']): Request {
  return hostile?.large ?? request({ kind: 'list', customer: 'hostile' }) ?? { method: 'GET', path: readiness, headers: {} }
}

function whole (request: Request): string {
  return `${headOf(request)}\r\n`
}

/** The head without the empty line that ends it. */
function headOf ({ method, path, headers }: Request): string {
  return [`${method} ${path} HTTP/1.1`, 'Host: hostile', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), ''].join('\r\n')
}
