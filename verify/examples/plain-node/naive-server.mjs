// The same service as it is often written: it answers an order at once, writes it a moment later, and exits at once at a stop.
// It is fast, and loses the orders answered since the last write. The target is naive.mts.
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { ordersApi } from './orders.mjs'

const { PORT, ORDERS_FILE, CATALOGUE } = process.env

const text = existsSync(ORDERS_FILE) ? readFileSync(ORDERS_FILE, 'utf8') : ''
const entries = text.split('\n').slice(0, -1).map(line => JSON.parse(line))
let lines = ''

createServer(ordersApi({ catalogue: JSON.parse(CATALOGUE), entries, write, isStopping: () => false })).listen(Number(PORT), '127.0.0.1')

async function write (entry) {
  lines += `${JSON.stringify(entry)}\n`
}

setInterval(() => {
  appendFileSync(ORDERS_FILE, lines)
  lines = ''
}, 250)

process.on('SIGTERM', () => process.exit(0))
