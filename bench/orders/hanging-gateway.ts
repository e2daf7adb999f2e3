import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Pool } from 'undici'
import { signToken } from '../../auth/local-token.ts'
import { Progress } from '../../verify/progress.ts'
import { secret } from '../../verify/targets/order-service.ts'
import { readArguments } from '../arguments.ts'
import { Contest } from './contest.ts'
import { entrantOf } from './costs.ts'
import { median } from './figures.ts'

const HELP = `What a payment gateway that hangs does to the other routes: the latency of orders, with customers who pay meanwhile and without.

node bench/orders/hanging-gateway.ts [--clients 16] [--payers 100] [--turns 6] [--seconds 3]

--payers   customers who pay at once, and pay again when they have an answer`

const options = readArguments({
  clients: { type: 'string', default: '16' },
  payers: { type: 'string', default: '100' },
  turns: { type: 'string', default: '6' },
  seconds: { type: 'string', default: '3' },
  help: { type: 'boolean', short: 'h', default: false }
}, HELP, ['clients', 'payers', 'turns', 'seconds'])
const [clients, payers, turns, seconds] = [Number(options.clients), Number(options.payers), Number(options.turns), Number(options.seconds)]

// Takes every request, and answers none.
const gateway = createServer(() => {}).listen(0, '127.0.0.1')
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
  let answered = 0
  const pairs: Array<readonly [quiet: number, hanging: number]> = []
  for (let turn = 1; turn <= turns; turn++) {
    progress.state(`turn ${turn} of ${turns}: quiet`)
    const quiet = await contest.measureRunning(service, database, conditions)
    progress.state(`turn ${turn} of ${turns}: ${payers} pay, and the gateway hangs`)
    const over = new AbortController()
    const paying = Array.from({ length: payers }, async (_, payer) => {
      const headers = { authorization, 'content-type': 'application/json', 'idempotency-key': `turn-${turn}-payer-${payer}` }
      const { body: placed } = await pool.request({ method: 'POST', path: '/orders', headers, body })
      const { id } = await placed.json() as { id: string }
      while (!over.signal.aborted) {
        const { body: paid } = await pool.request({ method: 'POST', path: `/orders/${id}/pay`, headers: { authorization } })
        await paid.dump()
        answered++
        await new Promise(resolve => setTimeout(resolve, 500))
      }
    })
    const hanging = await contest.measureRunning(service, database, conditions)
    over.abort()
    await Promise.all(paying)
    pairs.push([quiet.p99Ms, hanging.p99Ms])
    progress.line(`turn ${turn}  p99 of orders: quiet ${quiet.p99Ms.toFixed(1)} ms, hanging ${hanging.p99Ms.toFixed(1)} ms`)
  }
  await pool.close()
  await service.stop()
  console.log(`  ${clients} clients place orders; ${payers} customers pay, and wait half a second after each answer (${answered} answers).`)
  console.log(`  p99 of an order: quiet ${median(pairs.map(([quiet]) => quiet)).toFixed(1)} ms, hanging ${median(pairs.map(([, hanging]) => hanging)).toFixed(1)} ms: ${median(pairs.map(([quiet, hanging]) => hanging / quiet)).toFixed(2)} ×, median of ${turns} turns`)
} finally {
  await contest.close()
  gateway.closeAllConnections()
  gateway.close()
}
