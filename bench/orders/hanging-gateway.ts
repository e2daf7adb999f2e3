import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Pool } from 'undici'
import { signToken } from '../../auth/local-token.ts'
import { Progress } from '../../verify/progress.ts'
import { secret } from '../../proof/order-service.ts'
import { readArguments } from '../arguments.ts'
import { Contest } from './contest.ts'
import { entrantOf } from './costs.ts'
import { median } from './figures.ts'

const help = `Measures what a hanging payment gateway does to the other routes: the latency of orders while nobody pays, while customers pay at
a gateway that declines at once, and while the same customers pay at one that hangs.

node bench/orders/hanging-gateway.ts [--clients 16] [--payers 100] [--turns 6] [--seconds 3]

--payers   customers who pay concurrently, and pay again when they have an answer`

/** Longer than a breaker stays open, with room for its trial call. */
const breakerRestMs = 2_500

const options = readArguments({
  clients: { type: 'string', default: '16' },
  payers: { type: 'string', default: '100' },
  turns: { type: 'string', default: '6' },
  seconds: { type: 'string', default: '3' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['clients', 'payers', 'turns', 'seconds'])
const [clients, payers, turns, seconds] = [Number(options.clients), Number(options.payers), Number(options.turns), Number(options.seconds)]

// A gateway that declines every charge, or takes every request and answers none.
let hangs = false
const gateway = createServer((request, response) => {
  const [, charges, id] = request.url?.split('/') ?? []
  if (hangs) return
  let body = ''
  request.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => {
    response.setHeader('content-type', 'application/json')
    if (request.method !== 'PUT' || charges !== 'charges') return response.writeHead(404).end('{}')
    const { order, customer, amount, currency } = JSON.parse(body) as Record<string, unknown>
    response.end(JSON.stringify({ id, order, customer, amount, currency, state: 'declined', reference: id, captured: 0, refunded: 0, reason: 'declined' }))
  })
}).listen(0, '127.0.0.1')
await once(gateway, 'listening')
const contest = await Contest.create()
const progress = new Progress(process.stderr)
try {
  const url = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`
  const database = await contest.createDatabase('uniform')
  const { contestant } = entrantOf('hanging-gateway', { PAYMENTS_URL: url, PAYMENTS_TIMEOUT_MS: '2000' }, join(import.meta.dirname, '../..'))
  const service = await contest.startService(contestant, database, clients + payers)
  const conditions = { clients, products: 'uniform' as const, lines: 1, warmUpMs: 500, measureMs: seconds * 1_000 }
  await contest.measureRunning(service, database, { ...conditions, clients: 64, warmUpMs: 4_000, measureMs: 100 })

  const pool = new Pool(`http://127.0.0.1:${service.port}`, { connections: payers })
  const authorization = `Bearer ${signToken({ secret, sub: 'payer' })}`
  const [product] = await contest.query<{ sku: string }>('SELECT sku FROM products LIMIT 1', database)
  const body = JSON.stringify({ currency: 'EUR', items: [{ sku: product?.sku, quantity: 1 }] })
  const answers: number[] = []
  const p99s: Record<'quiet' | 'declining' | 'hanging', number[]> = { quiet: [], declining: [], hanging: [] }

  async function whilePaying (turn: number): Promise<number> {
    let answered = 0
    const over = new AbortController()
    const paying = Array.from({ length: payers }, async (_, payer) => {
      const headers = { authorization, 'content-type': 'application/json', 'idempotency-key': `turn-${turn}-${hangs}-payer-${payer}` }
      const { body: placed } = await pool.request({ method: 'POST', path: '/orders', headers, body })
      const { id } = await placed.json() as { id: string }
      while (!over.signal.aborted) {
        const { body: paid } = await pool.request({ method: 'POST', path: `/orders/${id}/pay`, headers: { authorization } })
        await paid.dump()
        answered++
        await new Promise(resolve => setTimeout(resolve, 500))
      }
    })
    const { p99Ms } = await contest.measureRunning(service, database, conditions)
    over.abort()
    await Promise.all(paying)
    answers.push(answered)
    return p99Ms
  }

  for (let turn = 1; turn <= turns; turn++) {
    progress.state(`turn ${turn} of ${turns}: nobody pays`)
    p99s.quiet.push((await contest.measureRunning(service, database, conditions)).p99Ms)
    for (const gatewayIs of ['declining', 'hanging'] as const) {
      progress.state(`turn ${turn} of ${turns}: ${payers} pay, the gateway is ${gatewayIs}`)
      hangs = gatewayIs === 'hanging'
      p99s[gatewayIs].push(await whilePaying(turn))
    }
    progress.line(`turn ${turn}  p99 of orders: ${Object.entries(p99s).map(([condition, of]) => `${condition} ${of.at(-1)?.toFixed(1)} ms`).join(', ')}`)
    // The breaker closes again before the service calls the gateway in the next turn.
    hangs = false
    await new Promise(resolve => setTimeout(resolve, breakerRestMs))
  }
  const ratio = (of: number[], to: number[]): string => `${median(of.map((ms, turn) => ms / (to[turn] ?? NaN))).toFixed(2)} ×`
  await pool.close()
  await service.stop()
  const [declined = 0, hung = 0] = [0, 1].map(which => answers.filter((_, index) => index % 2 === which).reduce((sum, count) => sum + count, 0))
  console.log(`  ${clients} clients place orders; ${payers} customers pay, and wait half a second after each answer (${declined} answers while the gateway declined, ${hung} while it hung).`)
  console.log(`  p99 of an order, medians of ${turns} turns: ${Object.entries(p99s).map(([condition, of]) => `${condition} ${median(of).toFixed(1)} ms`).join(', ')}`)
  console.log(`  hanging ÷ declining ${ratio(p99s.hanging, p99s.declining)}, hanging ÷ quiet ${ratio(p99s.hanging, p99s.quiet)}, declining ÷ quiet ${ratio(p99s.declining, p99s.quiet)}`)
} finally {
  await contest.close()
  gateway.closeAllConnections()
  gateway.close()
}
