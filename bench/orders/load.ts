import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { quantile } from '../drain/ratio.ts'

/** The input of the load generator. Durations in ms. */
export interface LoadSettings {
  readonly port: number
  /** One for each client: a connection with one request at a time, and the next as soon as it has its answer. */
  readonly tokens: readonly string[]
  readonly skus: readonly string[]
  /** Different products in an order. */
  readonly lines: number
  readonly warmUpMs: number
  readonly measureMs: number
}

/** The output of the load generator. */
export interface LoadResult {
  /** 201s from the first request to the last: this many orders must be stored. */
  readonly acknowledged: number
  /** Other answers, by status. */
  readonly others: Readonly<Record<string, number>>
  /** 201s per second in the measured window. */
  readonly rate: number
  /** Time from the request to the whole answer, in ms. */
  readonly latency: { readonly p50: number, readonly p99: number, readonly max: number }
}

/** `measuring`: the warm-up is over. `measured`: later answers do not count. */
export type LoadPhase = 'measuring' | 'measured'

/** The highest number of 201s per ms, which sizes the memory for their latencies. Memory that is not written to costs nothing. */
const answersPerMsMax = 40

/**
 * A closed loop over keep-alive connections. Each request is an order of its own with a fresh Idempotency-Key. It reads only
 * the status and the length of an answer, so that it costs less than what it measures.
 */
export class Load {
  readonly #settings: LoadSettings
  readonly #latencies: Float64Array
  readonly #others: Record<string, number> = {}
  readonly #keyPrefix = randomBytes(12).toString('hex')
  #clients: Client[] = []
  #keys = 0
  #acknowledged = 0
  #measured = 0
  #measuring = false
  #over = false

  constructor (settings: LoadSettings) {
    this.#settings = settings
    this.#latencies = new Float64Array(settings.measureMs * answersPerMsMax)
  }

  async open (): Promise<void> {
    const { port, tokens } = this.#settings
    this.#clients = tokens.map(token => new Client(connect(port, '127.0.0.1'), token))
    await Promise.all(this.#clients.map(({ socket }) => once(socket, 'connect')))
  }

  /** @throws Error if a connection is lost or an answer cannot be read */
  async run (onPhase: (phase: LoadPhase) => void): Promise<LoadResult> {
    const { warmUpMs, measureMs } = this.#settings
    let from = 0
    let seconds = 0
    setTimeout(() => {
      onPhase('measuring')
      this.#measuring = true
      from = performance.now()
      setTimeout(() => {
        this.#measuring = false
        this.#over = true
        seconds = (performance.now() - from) / 1_000
        onPhase('measured')
      }, measureMs)
    }, warmUpMs)
    await Promise.all(this.#clients.map(client => this.#orderOneAfterAnother(client)))

    const latencies = this.#latencies.subarray(0, this.#measured).sort()
    return {
      acknowledged: this.#acknowledged,
      others: this.#others,
      rate: this.#measured / seconds,
      latency: { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99), max: quantile(latencies, 1) }
    }
  }

  close (): void {
    for (const { socket } of this.#clients) socket.destroy()
  }

  async #orderOneAfterAnother (client: Client): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      let sentAt = 0
      const order = (): void => {
        sentAt = performance.now()
        client.send(this.#nextKey(), this.#nextBody())
      }
      client.socket.on('close', () => reject(new Error('A connection was closed under the load: this is no measurement.')))
      client.socket.on('error', reject)
      client.onAnswer = status => {
        if (status === '201') {
          this.#acknowledged++
          if (this.#measuring) this.#latencies[this.#measured++] = performance.now() - sentAt
        } else {
          this.#others[status] = (this.#others[status] ?? 0) + 1
        }
        if (this.#over) resolve()
        else order()
      }
      order()
    })
  }

  /** As long as a UUID, which clients usually send. */
  #nextKey (): string {
    return this.#keyPrefix + String(this.#keys++).padStart(12, '0')
  }

  #nextBody (): string {
    const { skus, lines } = this.#settings
    let items = ''
    for (const sku of distinct(skus, lines)) items += `${items === '' ? '' : ','}{"sku":"${sku}","quantity":1}`
    return `{"currency":"EUR","items":[${items}]}`
  }
}

class Client {
  readonly socket: Socket
  onAnswer: (status: string) => void = () => {}
  readonly #head: string
  #unread = ''

  constructor (socket: Socket, token: string) {
    this.socket = socket.setNoDelay().setEncoding('latin1').on('data', data => this.#read(String(data)))
    this.#head = `POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nIdempotency-Key: `
  }

  send (key: string, body: string): void {
    this.socket.write(`${this.#head}${key}\r\nContent-Length: ${body.length}\r\n\r\n${body}`, 'latin1')
  }

  #read (data: string): void {
    const read = this.#unread === '' ? data : this.#unread + data
    const headEnd = read.indexOf('\r\n\r\n')
    const length = headEnd < 0 ? undefined : /content-length: (\d+)/i.exec(read)?.[1]
    if (length === undefined || read.length < headEnd + 4 + Number(length)) {
      if (headEnd >= 0 && length === undefined) throw new Error(`An answer without Content-Length cannot be read here:\n${read}`)
      this.#unread = read
      return
    }
    this.#unread = ''
    this.onAnswer(read.slice(9, 12))
  }
}

/** Distinct random values. */
function distinct (values: readonly string[], count: number): readonly string[] {
  if (count >= values.length) return values
  const chosen = new Set<string>()
  while (chosen.size < count) chosen.add(values[Math.floor(Math.random() * values.length)] ?? '')
  return [...chosen]
}

if (process.send !== undefined) {
  const [settings] = await once(process, 'message') as [LoadSettings]
  // Exits only when the parent disconnects: until then, the parent reads the CPU time of this process.
  process.once('disconnect', () => process.exit())
  const load = new Load(settings)
  await load.open()
  const result = await load.run(phase => process.send?.(phase))
  load.close()
  process.send(result)
}
