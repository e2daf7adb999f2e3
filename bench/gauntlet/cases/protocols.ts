import { once } from 'node:events'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:http2'
import type { ClientHttp2Session } from 'node:http2'
import { Agent } from 'node:https'
import { generate } from 'selfsigned'
import { answered, inTime } from '../ask.ts'
import { must } from '../fault.ts'
import type { Cell, Service, ServiceOptions } from '../service.ts'
import type { Case } from './case.ts'

async function certificate (): Promise<{ key: string, cert: string }> {
  const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }])
  return { key, cert }
}

async function answerOf (session: ClientHttp2Session, path: string): Promise<string> {
  const stream = session.request({ ':path': path })
  let says = 'no answer'
  stream.on('response', headers => { says = String(headers[':status']) })
  stream.on('error', (error: NodeJS.ErrnoException) => { says = error.code ?? error.message })
  stream.resume()
  await once(stream, 'close').catch(() => {})
  return stream.rstCode === 0 ? says : 'reset'
}

/** A client's preface with empty SETTINGS (RFC 9113, 3.4), and nothing after it: it leaves GOAWAY unread. */
const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'

async function http2 (cell: Cell, options: ServiceOptions): Promise<void> {
  const service = await cell.start({ http2: true, ...options })
  const session = connect(service.origin, { rejectUnauthorized: false })
  session.on('error', () => {})
  const idle = options.tls === undefined ? await service.connect() : undefined
  idle?.send(preface)
  let goaway = false
  session.on('goaway', () => { goaway = true })
  try {
    const answer = answerOf(session, '/async?name=order&ms=1500')
    await service.says('begun order', 'not begun')
    service.signal()
    const says = await inTime(service.deadline, answer, 'no answer')
    must(says === '200', `answer ${says}`)
    must(goaway, 'no GOAWAY')
    await service.exitsClean(3_000)
  } finally {
    session.destroy()
    idle?.socket.destroy()
  }
}

export const h2c: Case = {
  name: 'h2c',
  says: 'HTTP/2 in clear text: the session gets GOAWAY while its stream is in flight, the stream is answered, and the process exits within 3 s, even with an idle session that ignores GOAWAY',
  run: cell => http2(cell, {})
}

export const h2Tls: Case = {
  name: 'h2-tls',
  says: 'HTTP/2 over TLS: the same, without the idle session',
  run: async cell => http2(cell, { tls: await certificate() })
}

export const tls: Case = {
  name: 'tls',
  says: 'HTTPS: the request in flight is answered with Connection: close; an idle connection and one without a handshake do not hold the exit for 3 s',
  async run (cell) {
    const service = await cell.start({ tls: await certificate() })
    const idle = new Agent({ keepAlive: true })
    await service.ask('/', { agent: idle })
    const mute = await service.connect()
    const busy = new Agent({ keepAlive: true })
    const { answer } = await service.begin('order', 500, { agent: busy })
    service.signal()
    const { connection } = await answered(answer)
    await service.exitsClean(3_000)
    must(connection === 'close', `says ${connection}`)
    mute.socket.destroy()
    idle.destroy()
    busy.destroy()
  }
}

export const webSocket: Case = {
  name: 'websocket',
  says: 'A WebSocket of @fastify/websocket is closed with 1001 (going away), and the process exits within 3 s',
  async run (cell) {
    const service = await cell.start({ websocket: true })
    const socket = new WebSocket(`${service.origin.replace('http', 'ws')}/websocket`)
    await once(socket, 'message')
    const closed = once(socket, 'close')
    service.signal()
    const [{ code }] = await inTime(service.deadline + 2_000, closed, 'left open') as [CloseEvent]
    await service.exitsClean(3_000)
    must(code === 1001, `closed with ${code}`)
  }
}

export const lateWebSocket: Case = {
  name: 'late-websocket',
  says: 'The client of a WebSocket server (ws) that was attached to app.server after listen() gets no HTTP 408, its connection is ended and not reset, and the process exits within 3 s',
  async run (cell) {
    const service = await cell.start({ lateWebSocket: true })
    const client = await service.connect()
    // It answers a close frame, as any client does, with one of its own (RFC 6455, 5.5.1).
    client.socket.on('data', (chunk: Buffer) => { if (chunk[0] === 0x88) client.socket.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0])) })
    client.get('/', 'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n')
    await inTime(service.deadline, client.receives('hello'), 'no WebSocket')
    service.signal()
    await service.exitsClean(3_000)
    const end = await client.ended
    const [, written] = client.responses
    must(written === undefined, `written HTTP ${written?.slice(0, 3)}`)
    must(end === 'end', end)
  }
}

/** An endless stream of server-sent events. */
async function eventStream (cell: Cell, options: ServiceOptions): Promise<Service> {
  const service = await cell.start(options)
  const [response] = await once(get(`${service.origin}/events`, { agent: false }), 'response') as [IncomingMessage]
  response.on('error', () => {})
  await once(response, 'data')
  const closed = once(response, 'close').catch(() => {})
  response.resume()
  service.signal()
  await inTime(service.deadline + 2_000, closed, 'left open')
  must(response.complete, 'cut')
  await service.exitsClean(3_000)
  return service
}

export const sse: Case = {
  name: 'sse',
  says: 'An endless stream of server-sent events, which the package\'s hook or otherwise preClose ends, ends cleanly, and the process exits within 3 s',
  run: async cell => { await eventStream(cell, {}) }
}

export const preClose: Case = {
  name: 'pre-close',
  says: 'An endless stream that the application ends in its own preClose hook, as in Fastify\'s documentation, ends cleanly, the process exits within 3 s, and the hook has run once',
  async run (cell) {
    const service = await eventStream(cell, { preClose: true })
    const times = service.lines.filter(({ msg }) => msg === 'preClose').length
    must(times === 1, `hook ran ${times} times`)
  }
}
