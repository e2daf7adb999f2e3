import { Server, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http'
import type { Answer, Asked, Event, Job, Known, Order, Saboteur, Stream } from './saboteur.ts'
import { atSignal, wrap } from './wrap.ts'

/** A saboteur with its record. */
export interface Agent extends Job {
  readonly saboteur: Saboteur
}

/** Puts the saboteurs between every HTTP server of this process and its clients. */
export function spoilHttp (agents: readonly Agent[]): void {
  const orders = new Map<string, Order>()
  const streams = new Set<Stream>()
  let stopping = false
  atSignal(() => { stopping = true })

  wrap(Server.prototype, 'emit', (emit, args) => {
    const [event, request, response] = args as [string, IncomingMessage, ServerResponse]
    if (event !== 'request') return emit(args)
    const { method = '', url = '', headers } = request
    const { pathname: path, searchParams: query } = new URL(url, 'http://of.no.matter')
    const asked: Asked = { method, path, query, headers, customer: customerOf(headers.authorization), stopping }
    const answer = askedFirst(agents, asked, { orders })
    if (answer !== undefined) {
      request.resume()
      response.writeHead(answer.status, { ...answer.headers, 'content-length': Buffer.byteLength(answer.body) }).end(answer.body)
      return true
    }
    intercept(response, {
      whole: answer => {
        const spoiled = agents.reduce((answer, agent) => spoiledBy(agent, asked, answer, { orders }), answer)
        // The service's own answer: one saboteur does not see the changes of another.
        learn(answer, orders)
        return spoiled
      },
      stream: push => {
        const stream: Stream = { all: streams, customer: asked.customer, push }
        streams.add(stream)
        response.once('close', () => streams.delete(stream))
        return text => agents.reduce<readonly string[]>((texts, agent) => texts.flatMap(text => streamedBy(agent, text, stream)), [text])
      }
    })
    return emit(args)
  })
}

function askedFirst (agents: readonly Agent[], asked: Asked, known: Known): Answer | undefined {
  for (const { saboteur, may, did } of agents) {
    if (saboteur.asked === undefined || !may(asked.customer)) continue
    const headers = Object.keys(asked.headers).length
    const answer = saboteur.asked(asked, known)
    if (answer !== undefined || Object.keys(asked.headers).length !== headers) did(asked.customer)
    if (answer !== undefined) return answer
  }
}

function spoiledBy ({ saboteur, may, did }: Agent, asked: Asked, answer: Answer, known: Known): Answer {
  const other = may(asked.customer) ? saboteur.answered?.(asked, answer, known) : undefined
  if (other !== undefined) did(asked.customer)
  return other ?? answer
}

function streamedBy ({ saboteur, may, did }: Agent, text: string, stream: Stream): readonly string[] {
  const data = /^data: ?(.*)$/m.exec(text)?.[1]
  if (data === undefined || saboteur.streamed === undefined || !may(stream.customer)) return [text]
  const { orderId, version, type } = JSON.parse(data) as Event
  const others = saboteur.streamed({ orderId, version, type, text }, stream)
  if (others !== undefined) did(stream.customer)
  return others ?? [text]
}

function learn (answer: Answer, orders: Map<string, Order>): void {
  if (answer.status >= 300 || !answer.body.startsWith('{')) return
  const content = JSON.parse(answer.body) as Partial<Order> & { orders?: Order[] }
  for (const order of content.orders ?? (content.id === undefined ? [] : [content as Order])) {
    // A replay shows an order as it was.
    if ((orders.get(order.id)?.version ?? 0) <= order.version) orders.set(order.id, order)
  }
}

interface Intercept {
  /** An answer in one piece. */
  whole: (answer: Answer) => Answer
  /** An event stream begins. Returns a function that replaces each block of it. */
  stream: (push: (text: string) => void) => (text: string) => readonly string[]
}

/** Holds the head back until the body is known. */
function intercept (response: ServerResponse, { whole, stream }: Intercept): void {
  const writeHead = response.writeHead.bind(response) as (status: number, headers: OutgoingHttpHeaders) => ServerResponse
  const write = response.write.bind(response) as (chunk: unknown, ...rest: unknown[]) => boolean
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse
  let head: { status: number, headers: OutgoingHttpHeaders } | undefined
  let blocks: ((text: string) => readonly string[]) | undefined
  let rest = ''

  /** The content type of the head. If the service has written no head, makes the default one, as node:http does. */
  function takeHead (): string {
    if (head === undefined && !response.headersSent) response.writeHead(response.statusCode)
    return String(head?.headers['content-type'])
  }
  function flushHead (): void {
    if (head !== undefined) writeHead(head.status, head.headers)
    head = undefined
  }
  function throughBlocks (chunk: unknown): string {
    const parts = (rest + textOf(chunk)).split('\n\n')
    rest = parts.pop() ?? ''
    return parts.flatMap(part => blocks?.(`${part}\n\n`) ?? []).join('')
  }
  Object.assign(response, {
    writeHead (status: number, ...args: unknown[]) {
      const given = args.find((arg): arg is OutgoingHttpHeaders => typeof arg === 'object' && arg !== null && !Array.isArray(arg))
      head = { status, headers: { ...response.getHeaders(), ...inLowerCase(given ?? {}) } }
      return response
    },
    write (chunk: unknown, ...args: unknown[]) {
      if (takeHead().startsWith('text/event-stream')) blocks = stream(text => { write(text) })
      flushHead()
      if (blocks === undefined) return write(chunk, ...args)
      const text = throughBlocks(chunk)
      return text === '' ? true : write(text)
    },
    end (...args: unknown[]) {
      const [chunk, ...more] = args
      const type = takeHead()
      if (blocks !== undefined && chunk != null && typeof chunk !== 'function') return end(throughBlocks(chunk) + rest, ...more)
      if (head === undefined || typeof chunk === 'function' || !type.includes('json')) {
        flushHead()
        return end(...args)
      }
      const { status, headers, body } = whole({ ...head, body: textOf(chunk ?? '') })
      head = undefined
      writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) })
      return end(body, ...more)
    }
  })
}

function inLowerCase (headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

function textOf (chunk: unknown): string {
  return chunk instanceof Uint8Array ? Buffer.from(chunk).toString() : String(chunk)
}

/** The `sub` of a bearer token, which is not verified yet. */
function customerOf (authorization = ''): string {
  const payload = authorization.split('.')[1]
  if (payload === undefined) return ''
  try {
    return (JSON.parse(Buffer.from(payload, 'base64url').toString()) as { sub?: string }).sub ?? ''
  } catch {
    return ''
  }
}
