import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { quantile } from '../drain/ratio.ts'

/** The input of the generator. Durations in ms. */
export interface OpenLoad {
  readonly port: number
  /** These customers place the orders in turns. */
  readonly tokens: readonly string[]
  readonly connections: number
  /** New orders per second, whatever happens to earlier ones; undefined: each connection sends the next order when it has its answer. */
  readonly rate?: number
  readonly durationMs: number
  /** Requests that a connection sends before it has the first answer. */
  readonly pipelined: number
  /** Time after which a client hangs up. */
  readonly timeoutMs: number
  /** Attempts after the first, for each order. */
  readonly retriesMax: number
}

export interface OpenLoadResult {
  readonly offered: number
  readonly sent: number
  readonly placed: number
  /** Answers and failures, by kind. */
  readonly kinds: Readonly<Record<string, number>>
  /** Time from the first attempt to the 201, ms. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** Share of a CPU that this process used. */
  readonly cpuShare: number
}

/** The largest share of retries in the offered orders: more would be a storm of its own. */
const retryBudget = 0.2
const backoffMs = { first: 100, most: 5_000 }
const waitingMax = 20_000
const tickMs = 5

interface Order {
  readonly bytes: string
  readonly since: number
  attempts: number
}

interface Client {
  readonly socket: Socket
  readonly sent: Array<{ order: Order, timer: NodeJS.Timeout }>
  unread: string
}

/** Uses raw sockets, and reads only what it needs of an answer: the generator must not be the bottleneck. */
async function generate (load: OpenLoad): Promise<OpenLoadResult> {
  const { port, tokens, connections, rate, durationMs, pipelined, timeoutMs, retriesMax } = load
  const body = '{"currency":"EUR","items":[{"sku":"product-0001","quantity":1}]}'
  const kinds: Record<string, number> = {}
  const latencies: number[] = []
  const waiting: Order[] = []
  const free: Client[] = []
  const open = new Set<Client>()
  const since = performance.now()
  const cpuSince = process.cpuUsage()
  let [offered, sent, retried] = [0, 0, 0]
  let isOver = false

  function count (kind: string): void { kinds[kind] = (kinds[kind] ?? 0) + 1 }

  function newOrder (): Order {
    const token = tokens[offered++ % tokens.length] ?? ''
    return { bytes: `POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\nIdempotency-Key: ${randomUUID()}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`, since: performance.now(), attempts: 0 }
  }

  function offer (order: Order): void {
    const client = free.pop()
    if (client !== undefined) send(client, order)
    else if (waiting.length < waitingMax) {
      waiting.push(order)
      if (open.size < connections) connectOne()
    } else count('not sent: the generator has no connection')
  }

  function connectOne (): void {
    const client: Client = { socket: connect(port, '127.0.0.1').setNoDelay().setEncoding('latin1'), sent: [], unread: '' }
    open.add(client)
    client.socket.on('connect', () => next(client))
    client.socket.on('data', data => read(client, String(data)))
    client.socket.on('error', () => {})
    client.socket.on('close', () => {
      open.delete(client)
      const at = free.indexOf(client)
      if (at >= 0) free.splice(at, 1)
      for (const { order, timer } of client.sent.splice(0)) {
        clearTimeout(timer)
        failed(order, 'connection lost')
      }
      if (!isOver && (waiting.length > 0 || rate === undefined)) connectOne()
    })
  }

  function next (client: Client): void {
    while (client.sent.length < pipelined && !client.socket.destroyed) {
      const order = waiting.shift() ?? (rate === undefined && !isOver ? newOrder() : undefined)
      if (order === undefined) {
        if (client.sent.length === 0 && !free.includes(client)) free.push(client)
        return
      }
      send(client, order)
    }
  }

  function send (client: Client, order: Order): void {
    sent++
    order.attempts++
    const timer = setTimeout(() => {
      client.sent.splice(client.sent.findIndex(({ order: other }) => other === order), 1)
      failed(order, 'given up by the client')
      client.socket.destroy()
    }, timeoutMs)
    client.sent.push({ order, timer })
    client.socket.write(order.bytes, 'latin1')
  }

  function read (client: Client, data: string): void {
    client.unread += data
    for (;;) {
      const headEnd = client.unread.indexOf('\r\n\r\n')
      const head = client.unread.slice(0, headEnd)
      const length = headEnd < 0 ? undefined : /content-length: (\d+)/i.exec(head)?.[1]
      if (length === undefined || client.unread.length < headEnd + 4 + Number(length)) return
      const text = client.unread.slice(headEnd + 4, headEnd + 4 + Number(length))
      client.unread = client.unread.slice(headEnd + 4 + Number(length))
      const answered = client.sent.shift()
      if (answered === undefined) {
        count('an answer to nothing')
        continue
      }
      clearTimeout(answered.timer)
      const status = head.slice(9, 12)
      if (status === '201') {
        count('201')
        if (!isOver) latencies.push(performance.now() - answered.order.since)
      } else failed(answered.order, `${status} ${/"\/problems\/([^"]+)"/.exec(text)?.[1] ?? 'no problem'}`, Number(/retry-after: (\d+)/i.exec(head)?.[1] ?? 0) * 1_000)
      if (/connection: close/i.test(head)) client.socket.destroy()
      else next(client)
    }
  }

  /** Retries like a good client: after the Retry-After, with full jitter, and within a budget. */
  function failed (order: Order, kind: string, retryAfterMs = 0): void {
    count(kind)
    if (isOver || order.attempts > retriesMax || retried >= offered * retryBudget) return
    retried++
    const spread = Math.min(backoffMs.most, backoffMs.first * 2 ** order.attempts)
    setTimeout(() => { if (!isOver) offer(order) }, retryAfterMs + Math.random() * spread)
  }

  let offeredUntil = since
  if (rate === undefined) for (let n = 0; n < connections; n++) connectOne()
  const ticking = setInterval(() => {
    if (rate === undefined) return
    const now = performance.now()
    for (; offeredUntil < now; offeredUntil += 1_000 / rate) offer(newOrder())
  }, tickMs)
  await new Promise(resolve => setTimeout(resolve, durationMs))
  clearInterval(ticking)
  isOver = true
  waiting.length = 0
  const { user, system } = process.cpuUsage(cpuSince)
  const until = performance.now() + timeoutMs + 1_000
  while ([...open].some(client => client.sent.length > 0) && performance.now() < until) await new Promise(resolve => setTimeout(resolve, 50))
  for (const { socket } of open) socket.destroy()
  const sorted = Float64Array.from(latencies).sort()
  return {
    offered,
    sent,
    placed: latencies.length,
    kinds,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    cpuShare: (user + system) / 1_000 / durationMs
  }
}

if (process.send !== undefined) {
  const [load] = await once(process, 'message') as [OpenLoad]
  process.send(await generate(load), () => process.exit())
}
