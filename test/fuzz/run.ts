import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { random } from '../../verify/random.ts'
import { createTestDatabase } from '../postgres.ts'
import { startService, type Service } from '../service.ts'
import { signToken } from '../../auth/local-token.ts'
import { operationsOf, type Document } from './document.ts'
import { asCurl, catalogue, Draw, generate, type Generator, type Made, type Things } from './generate.ts'
import { Judge, outcomeOf, storedFaults, type Answered, type Outcome, type AnsweredRequest } from './judge.ts'

/** Concurrent requests. */
const atOnce = 32
/** After this time, in ms, a request without an answer counts as hanging. The service itself gives up after 15,000. */
const hangMs = 20_000

const secret = 'a secret for tests, of more than thirty-two bytes'

export interface FuzzOptions {
  requests: number
  seed: number
  /** How many times SIGTERM stops the service, evenly spread. After each stop another process goes on. */
  stops: number
  log?: ((line: string) => void) | undefined
}

export interface Fuzzed {
  faults: string[]
  /** How many answers had each status, and why others did not come. */
  answers: Record<string, number>
  seconds: number
  residentMb: number
}

interface Test { teardown (end: () => Promise<unknown>): unknown }

/** Sends requests made from the OpenAPI document to the real service, a process on a database of its own. */
export async function fuzz (t: Test, { requests, seed, stops, log = () => {} }: FuzzOptions): Promise<Fuzzed> {
  const { url: databaseUrl } = await createTestDatabase(t)
  const sql = new pg.Pool({ connectionString: databaseUrl, application_name: 'test', max: 1 })
  t.teardown(() => sql.end())
  await sql.query(`INSERT INTO products VALUES ${catalogue}`)

  const env = { DATABASE_URL: databaseUrl, LOG_LEVEL: 'error', DRAIN_MIN_MS: '200', DRAIN_MAX_MS: '1000', PAYMENTS_NOTIFY_SECRET: 'a secret of the gateway, for tests', AUTH_JWT_SECRET: secret }
  let service = await startService(t, env)
  const document = await (await fetch(`${service.url}/openapi.json`)).json() as Document
  const judge = new Judge(document)
  const things: Things = { orders: [], payments: [], webhooks: [] }
  const generator: Generator = { operations: operationsOf(document), tokens: tokens(), things, seed }
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  const faults: string[] = []
  const answers: Record<string, number> = {}
  const answered: AnsweredRequest[] = []
  const startedAt = performance.now()
  let number = 0
  let stopped = 0
  let restarted: Promise<void> | undefined

  async function work (): Promise<void> {
    while (number < requests && faults.length < 20) {
      const made = generate(generator, number++)
      if (stopped < stops && number >= requests * (stopped + 1) / (stops + 1)) {
        stopped++
        restarted = restart().finally(() => { restarted = undefined })
        restarted.catch(() => {})
      }
      if (number % 5_000 === 0) log(`${number} requests, ${Math.round((performance.now() - startedAt) / 1_000)} s`)
      await one(made)
    }
  }

  async function restart (): Promise<void> {
    const before = service
    before.child.kill('SIGTERM')
    const end = await before.exited
    if (end[0] !== 0) faults.push(`stop ${stopped} ended with ${String(end)}: ${before.lines.slice(-3).join('\n')}`)
    faults.push(...failuresLogged(before))
    service = await startService(t, env)
  }

  async function one (made: Made): Promise<void> {
    const draw = new Draw(random(made.number ^ seed))
    if (made.kind === 'hostile' && draw.chance(0.03)) return await oneRaw(made, draw)
    for (;;) {
      const { url } = service
      const isStopping = restarted !== undefined
      try {
        const answer = await ask(url, made, agent)
        count(String(answer.status))
        const fault = judge.faultOf(made, answer)
        if (fault !== undefined) faults.push(`${fault}.\n    ${asCurl(made)}\n    ${answer.status} ${answer.text.slice(0, 500)}`)
        note(made, outcomeOf(answer), answer)
        return
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
        count(code)
        // Nothing was sent.
        if (code === 'ECONNREFUSED' && restarted !== undefined) {
          await restarted
          continue
        }
        note(made, 'unknown')
        if (code === hangs) faults.push(`it has no answer after ${hangMs} ms${isStopping ? ', in a stop' : ''}.\n    ${asCurl(made)}\n    ${await pendingAt(service)}`)
        else if (!isStopping && restarted === undefined && url === service.url) faults.push(`its connection ended without an answer (${code}).\n    ${asCurl(made)}`)
        return
      }
    }
  }

  /** Sends bytes that Node's own client would not send. */
  async function oneRaw (made: Made, draw: Draw): Promise<void> {
    const bytes = spoiltBytes(made, draw)
    note(made, 'unknown')
    if (restarted !== undefined) return
    const { text, isEnded } = await exchange(service.url, bytes)
    const statuses = [...text.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status = '']) => Number(status))
    count(`raw ${statuses.at(0) ?? 'none'}`)
    if (!isEnded) faults.push(`its connection is open ${hangMs} ms after its end: ${JSON.stringify(bytes)}`)
    if (statuses.some(status => status >= 500 && status !== 503)) faults.push(`it is a ${String(statuses)}: ${JSON.stringify(bytes)}\n    ${text.slice(0, 500)}`)
  }

  function count (what: string): void {
    answers[what] = (answers[what] ?? 0) + 1
  }

  function note (made: Made, outcome: Outcome, answer?: Answered): void {
    const body = answer?.type.includes('json') === true && outcome === 'done' && answer.text !== '' ? JSON.parse(answer.text) as Record<string, unknown> : {}
    const id = typeof body.id === 'string' ? body.id : undefined
    if (made.method !== 'GET' && made.method !== 'HEAD') answered.push({ made, outcome, id })
    if (id === undefined || outcome !== 'done' || made.method !== made.operation.method) return
    const token = made.headers.authorization?.slice('Bearer '.length)
    if (made.operation.name === 'POST /orders') keep(things.orders, { id, token })
    if (made.operation.name === 'POST /webhooks') keep(things.webhooks, { id, token })
    if (made.operation.name.endsWith('/pay')) {
      void sql.query<{ id: string }>('SELECT id FROM payments WHERE order_id = $1', [id]).then(({ rows }) => { for (const payment of rows) keep(things.payments, { id: payment.id, order: id, token }) })
    }
  }

  await Promise.all(Array.from({ length: atOnce }, work))
  await restarted
  agent.destroy()
  const residentMb = await residentMbOf(service)
  service.child.kill('SIGTERM')
  const end = await service.exited
  if (end[0] !== 0) faults.push(`the last stop ended with ${String(end)}: ${service.lines.slice(-3).join('\n')}`)
  faults.push(...failuresLogged(service), ...await storedFaults(sql, answered))
  return { faults, answers, seconds: Math.round((performance.now() - startedAt) / 1_000), residentMb }
}

function tokens (): Generator['tokens'] {
  const tokenOf = (sub: string, more = {}): string => signToken({ secret, sub, ...more })
  return {
    customers: ['alice', 'bob', 'carol', "o'brien", 'Zoë 🍺'].map(sub => tokenOf(sub)),
    staff: tokenOf('boss', { staff: true }),
    refunds: tokenOf('cashier', { refunds: true }),
    odd: [undefined, '', 'x', 'a.b.c', tokenOf('\u202eevil'), tokenOf('a'.repeat(255)), tokenOf('a'.repeat(256)), tokenOf('a\0'), tokenOf('__proto__'), signToken({ secret: 'x'.repeat(32), sub: 'alice' }), tokenOf('late', { expiresInMs: 1 })]
  }
}

/** Keeps the newest 500. */
function keep<Kept> (things: Kept[], thing: Kept): void {
  if (things.length >= 500) things.shift()
  things.push(thing)
}

/** Faults of the program that are in the log, also those that no client saw. */
function failuresLogged ({ lines }: Service): string[] {
  return lines.filter(line => /^\{"level":(50|60).*"type":"(Type|Reference|Range|Syntax)Error"/.test(line)).map(line => `the service logged a fault: ${line.slice(0, 500)}`)
}

const hangs = 'HANGS'

async function ask (url: string, { method, path, headers, body }: Made, agent: Agent): Promise<Answered> {
  return await new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const timer = setTimeout(() => request.destroy(Object.assign(new Error(hangs), { code: hangs })), hangMs)
    const settled = (): void => clearTimeout(timer)
    const request = httpRequest({ hostname, port, method, path, agent, headers: { ...headers, ...body !== undefined && { 'content-length': Buffer.byteLength(body) } } }, response => {
      const type = String(response.headers['content-type'] ?? '').split(';')[0] ?? ''
      const status = response.statusCode ?? 0
      let text = ''
      response.setEncoding('utf8')
      // An event stream has no end.
      if (type === 'text/event-stream') {
        response.destroy()
        settled()
        return resolve({ status, type, text })
      }
      response.on('data', chunk => { text += String(chunk) })
      response.on('end', () => {
        settled()
        resolve({ status, type, text })
      })
      response.on('error', reject)
    })
    request.on('error', error => {
      settled()
      reject(error)
    })
    request.end(body)
  })
}

/** The request on the wire, with some of its bytes changed, left out or doubled. */
function spoiltBytes ({ method, path, headers, body = '' }: Made, draw: Draw): Buffer {
  const head = [`${method} ${path} HTTP/1.1`, 'Host: a', ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), `Content-Length: ${Buffer.byteLength(body)}`]
  if (draw.chance(0.3)) head.push(draw.pick(['Transfer-Encoding: chunked', 'Content-Length: 5', 'Host: b', 'X : y', ' folded', 'Expect: x', 'Connection: close, authorization', `X: ${'x'.repeat(20_000)}`]))
  const bytes = Buffer.from([...head, '', body].join(draw.chance(0.1) ? '\n' : '\r\n'))
  for (let n = draw.below(4); n > 0; n--) bytes[draw.below(bytes.length)] = draw.below(256)
  return draw.chance(0.3) ? bytes.subarray(0, draw.below(bytes.length)) : draw.chance(0.3) ? Buffer.concat([bytes, bytes]) : bytes
}

async function exchange (url: string, bytes: Buffer): Promise<{ text: string, isEnded: boolean }> {
  return await new Promise(resolve => {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    let text = ''
    const timer = setTimeout(() => {
      socket.destroy()
      resolve({ text, isEnded: false })
    }, hangMs)
    socket.on('data', chunk => { text += chunk.toString('latin1') })
    socket.on('error', () => {})
    socket.on('close', () => {
      clearTimeout(timer)
      resolve({ text, isEnded: true })
    })
    socket.end(bytes)
  })
}

/** What the service itself reports as pending. */
async function pendingAt ({ opsUrl }: Service): Promise<string> {
  return await fetch(`${opsUrl}/drain`, { signal: AbortSignal.timeout(hangMs) }).then(async response => {
    const { report, database } = await response.json() as { report: { requests: { pending: object[] } }, database: object }
    return JSON.stringify({ pending: report.requests.pending, database })
  }, String)
}

async function residentMbOf ({ opsUrl }: Service): Promise<number> {
  const metrics = await (await fetch(`${opsUrl}/metrics`)).text()
  return Math.round(Number(/^process_resident_memory_bytes (\S+)$/m.exec(metrics)?.[1] ?? NaN) / 2 ** 20)
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { requests: { type: 'string', default: '20000' }, seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) }, stops: { type: 'string', default: '5' } } })
  const options = { requests: Number(values.requests), seed: Number(values.seed), stops: Number(values.stops) }
  const again = `npm run fuzz -- --requests ${options.requests} --seed ${options.seed} --stops ${options.stops}`
  const ends: Array<() => Promise<unknown>> = []
  console.log(again)
  try {
    const { faults, answers, seconds, residentMb } = await fuzz({ teardown: end => ends.push(end) }, { ...options, log: line => console.log(line) })
    console.log(`${JSON.stringify(answers)}\n${options.requests} requests in ${seconds} s, ${options.stops + 1} stops, ${residentMb} MiB resident at the end, ${faults.length} faults`)
    for (const fault of faults) console.log(`- ${fault}`)
    if (faults.length > 0) {
      console.log(`Repeat it by: ${again}`)
      process.exitCode = 1
    }
  } finally {
    for (const end of ends.toReversed()) await end()
  }
}
