import { appendFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { random } from '../random.ts'
import { Bank, type ChargeAsked, type Done, type RefundAsked } from './bank.ts'
import { drawDecision, drawDeclined, drawFault, drawLateness, drawNotices, drawPendingMs, type CallFault } from './call-faults.ts'
import { Ledger, type LedgerCharge, type LedgerRefund } from './ledger.ts'
import { send } from './notifications.ts'
import type { GatewaySettings, GatewayState, TellGateway } from './settings.ts'

// The payment gateway, as a process of its own: its ledger shows what was charged, whatever the service says.

/** Used if the caller names no deadline. */
const usualDeadlineMs = 5_000

const settings: GatewaySettings = JSON.parse(process.argv[2] ?? '')
let state: GatewayState = settings.state
const draw = random(settings.seed)
const ledger = new Ledger(settings.ledgerFile)
const bank = new Bank({ ledger, keysKeptMs: settings.keysKeptMs, onChange: changed })
/** Calls under way: concurrent equal calls get the outcome of the first. */
const going = new Map<string, Promise<Answer>>()

interface Answer {
  readonly status: number
  readonly body?: object
}

const server = createServer((request, response) => {
  receive(request, response).catch(() => response.destroy())
})
for (const { id } of ledger.pending) settleLater(id)
if (state.line !== 'refusing') await listen()
process.send?.('ready')

process.on('message', (told: TellGateway) => {
  tell(told).then(() => process.send?.('done'), error => { throw error })
})
// Without its parent, nothing would end it.
process.once('disconnect', () => {
  ledger.close()
  process.exit()
})

async function tell (told: TellGateway): Promise<void> {
  const before = state.line
  state = { ...state, ...told }
  // Calls that are under way get no answer.
  if (state.line !== before) server.closeAllConnections()
  if (state.line === 'refusing' && before !== 'refusing') server.close()
  if (state.line !== 'refusing' && before === 'refusing') await listen()
  if (told.calls === 'well') for (const { id } of ledger.pending) bank.settle(id, false)
}

async function listen (): Promise<void> {
  server.listen(settings.port, '127.0.0.1')
  await once(server, 'listening')
}

async function receive (request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = '', url = '' } = request
  if (state.line === 'cutting') request.socket.resetAndDestroy()
  // The call is cut when the line changes.
  if (state.line !== 'up') return
  const body = await text(request)
  const fault = state.calls === 'faulty' ? drawFault(draw) : undefined
  const deadlineMs = Number(request.headers['x-request-timeout-ms'] ?? usualDeadlineMs)
  const answer = request.headers.authorization === `Bearer ${settings.token}`
    ? await answered(`${method} ${url}`, body, fault, deadlineMs)
    : { status: 401, body: { error: 'The token is not known here. Nothing was done.' } }
  appendFileSync(settings.logFile, JSON.stringify({ at: now(), method, url, fault, ...answer, ...fault === 'lost' && { status: 'none' } }) + '\n')
  if (fault === 'lost') {
    request.socket.resetAndDestroy()
    return
  }
  response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer.body ?? {}))
}

async function answered (call: string, body: string, fault: CallFault | undefined, deadlineMs: number): Promise<Answer> {
  if (fault === '500-before') return { status: 500 }
  const name = `${call} ${body}`
  const answer = going.get(name) ?? perform(call, body, fault === 'slow-before' ? drawLateness(draw, deadlineMs) : 0)
  if (call.startsWith('PUT ') && !going.has(name)) {
    going.set(name, answer)
    answer.finally(() => going.delete(name)).catch(() => {})
  }
  const done = await answer.catch((error: unknown): Answer => ({ status: 400, body: { error: String(error) } }))
  if (fault === 'slow-after') await delay(drawLateness(draw, deadlineMs))
  return fault === '500-after' ? { status: 500 } : done
}

async function perform (call: string, body: string, lateMs: number): Promise<Answer> {
  if (lateMs > 0) await delay(lateMs)
  const [, method, kind, id = '', verb] = /^(GET|PUT|POST) \/(charges|refunds)\/([\w-]+)(?:\/(capture|void))?$/.exec(call) ?? []
  const asked = `${method} ${kind}${verb === undefined ? '' : ` ${verb}`}`
  switch (asked) {
    case 'GET charges': return found(ledger.charge(id)?.entry)
    case 'GET refunds': return found(ledger.refund(id)?.entry)
    case 'PUT charges': return answerOf(bank.charge(chargeIn(id, body), decision))
    case 'PUT refunds': return answerOf(bank.refund(refundIn(id, body), decision))
    case 'POST charges capture': return answerOf(bank.capture(id, amountIn(JSON.parse(body))))
    case 'POST charges void': return answerOf(bank.void(id))
    default: return { status: 404, body: { error: `There is no ${call}.` } }
  }
}

function decision (): ReturnType<typeof drawDecision> {
  return state.calls === 'faulty' ? drawDecision(draw) : 'at-once'
}

function found (entry: LedgerCharge | LedgerRefund | undefined): Answer {
  return entry === undefined ? { status: 404, body: { error: 'There is none of this id.' } } : { status: 200, body: entry }
}

function answerOf (done: Done<LedgerCharge | LedgerRefund>): Answer {
  switch (done.is) {
    case 'done': return { status: 200, body: done.entry }
    case 'refused': return { status: 409, body: done.entry }
    case 'conflict': return { status: 409, body: { error: 'Another is known under this id. Nothing was done.' } }
    case 'none': return { status: 404, body: { error: 'There is none of this id.' } }
  }
}

function changed (entry: LedgerCharge | LedgerRefund): void {
  if (entry.state === 'pending') settleLater(entry.id)
  if (state.notifyUrl === undefined) return
  send({ type: 'charge' in entry ? 'refund.updated' : 'charge.updated', id: entry.id }, {
    url: state.notifyUrl,
    secret: settings.notifySecret,
    onSend: () => appendFileSync(settings.noticesFile, `${JSON.stringify(now())}\n`),
    delays: state.calls === 'faulty' ? drawNotices(draw) : [0]
  })
}

function settleLater (id: string): void {
  setTimeout(() => bank.settle(id, state.calls === 'faulty' && drawDeclined(draw)), drawPendingMs(draw))
}

function chargeIn (id: string, body: string): ChargeAsked {
  const { order, customer, currency, capture, ...rest } = JSON.parse(body) as Partial<Record<string, unknown>>
  if (typeof order !== 'string' || typeof customer !== 'string' || typeof currency !== 'string' || typeof capture !== 'boolean') throw new TypeError(`It is no charge: ${body}`)
  return { id, order, customer, amount: amountIn(rest), currency, capture }
}

function refundIn (id: string, body: string): RefundAsked {
  const { charge, currency, ...rest } = JSON.parse(body) as Partial<Record<string, unknown>>
  if (typeof charge !== 'string' || typeof currency !== 'string') throw new TypeError(`It is no refund: ${body}`)
  return { id, charge, amount: amountIn(rest), currency }
}

function amountIn ({ amount }: { readonly amount?: unknown }): number {
  if (typeof amount !== 'number' || !Number.isSafeInteger(amount) || amount <= 0) throw new TypeError(`It is no amount in minor units: ${String(amount)}`)
  return amount
}
